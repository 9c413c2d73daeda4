-- $1 chain, $2 number of products, $3 first id.
insert into loyalty.products
select
    $3::bigint + n,
    $1::bigint,
    lpad((n * 7 % 1000000)::text, 8, '0'),
    (array['Rain jacket', 'Wool socks', 'Café mug', 'Trail shoe', 'Tea, 20 bags', 'Notebook "A5"', 'Scarf', 'Lamp'])
        [n % 8 + 1] || ' ' || n,
    case when n % 5 > 0 then E'Made to last.\nTwo years of warranty.' end,
    (array['Norrland', 'Ateliér', 'Dune & Co', null])[n % 4 + 1],
    (array['SS26', 'AW25', null])[n % 3 + 1],
    (array['Clothing > Outdoor', 'Clothing > Socks', 'Home > Kitchen', 'Shoes > Trail', 'Food > Tea',
        'Office > Paper', 'Clothing > Accessories', 'Home > Light'])[n % 8 + 1],
    (abs(hashint8extended(n, 11)) % 20000 + 99) / 100.0,
    case when n % 7 > 0 then (abs(hashint8extended(n, 11)) % 20000 + 99) / 200.0 end,
    case when n % 31 = 0 then 'kg' else 'item' end,
    n % 9 = 0,
    'https://shop.example/p/' || n,
    case when n % 6 > 0 then 'https://img.example/p/' || n || '.jpg' end,
    timestamptz '2024-01-01 00:00:00+00' + n * interval '3 hours',
    timestamptz '2025-01-01 00:00:00+00' + n * interval '1 hour'
from generate_series(1, $2::bigint) n
