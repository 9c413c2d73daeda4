-- $1 chain, $2 number of products, $3 first id: three variants of each product.
insert into loyalty.product_variants
select
    $3::bigint + p * 3 + v,
    $1::bigint,
    $3::bigint + p,
    lpad((p * 7 % 1000000)::text, 8, '0'),
    lpad((p * 7 % 1000000)::text, 8, '0') || '-' || v,
    '00' || lpad((abs(hashint8extended(p * 3 + v, 12)) % 100000000000)::text, 11, '0'),
    'Variant ' || p || '/' || v,
    (array['S', 'M', 'L'])[v + 1],
    (array['red', 'petrol', 'écru', null])[(p + v) % 4 + 1],
    case when p % 20 = 0 then 'refurbished' else 'new' end,
    (abs(hashint8extended(p, 11)) % 20000 + 99) / 100.0,
    null,
    p % 9 = 0,
    'https://shop.example/p/' || p || '?v=' || v,
    null,
    timestamptz '2025-01-01 00:00:00+00' + p * interval '1 hour'
from generate_series(1, $2::bigint) p, generate_series(0, 2) v
