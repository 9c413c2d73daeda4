-- $1 chain, $2 number of transactions, $3 first id, $4 number of products; one to three items each.
insert into loyalty.transactions
select
    $3::bigint + n,
    $1::bigint,
    'POS' || lpad((n % 60)::text, 3, '0') || '-' || n,
    timestamptz '2024-05-01 06:00:00+00' + n * (interval '752 days' / $2::bigint),
    case when n % 5 = 0 then 'online' else 'in_store' end,
    (2000 + n % 60)::int,
    (array['Rotterdam Blaak', 'Bremen Schlachte', 'Liège Guillemins', 'Hull Marina'])[n % 4 + 1],
    case when n % 6 > 0 then $3::bigint + n * 31 % greatest($2::bigint * 10 / 25, 1) end,
    case when n % 6 > 0 then lpad((n * 31 % greatest($2::bigint * 10 / 25, 1) * 7919 % 100000000)::text, 10, '0') end,
    case when n % 4 = 3 then 'GBP' else 'EUR' end,
    basket.quantity,
    basket.total,
    basket.total,
    round(basket.total * 21 / 121, 2),
    case when n % 5 = 0 then 4.95 end,
    (array['card', 'cash', 'ideal', 'wallet'])[n % 4 + 1],
    case when n % 12 = 0 then array['V' || n, 'V' || n + 1] when n % 9 = 0 then array['V' || n] else '{}' end,
    case when n % 5 > 0 then 'E' || lpad((n % 80)::text, 3, '0') end,
    case when n % 40 = 0 then E'Gift wrapped,\n"with care"' end,
    basket.items
from generate_series(1, $2::bigint) n,
    lateral (
        select
            sum(item.quantity) as quantity,
            sum(item.quantity * item.price)::numeric(12, 2) as total,
            jsonb_agg(
                jsonb_build_object(
                    'sku', lpad((item.product * 7 % 1000000)::text, 8, '0'),
                    'name', 'Product ' || item.product,
                    'category', (array['Clothing', 'Home', 'Shoes', 'Food'])[item.product % 4 + 1],
                    'quantity', item.quantity,
                    'price', item.price,
                    'returned', item.product % 50 = 0
                ) order by i
            ) as items
        from generate_series(0, n % 3) i,
            lateral (
                select
                    abs(hashint8extended(n * 3 + i, 13)) % $4::bigint + 1 as product,
                    (n + i) % 3 + 1 as quantity,
                    ((abs(hashint8extended(n * 3 + i, 14)) % 9900 + 100) / 100.0)::numeric(12, 2) as price
            ) item
    ) basket
