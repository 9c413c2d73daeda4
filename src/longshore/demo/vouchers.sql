-- $1 chain, $2 number of vouchers, $3 first id.
insert into loyalty.vouchers
select
    $3::bigint + n,
    $1::bigint,
    encode(sha256(($1::bigint || ':' || n)::bytea), 'hex'),
    (array['basket', 'basket_pct', 'honour', 'basket_fixed_unit'])[n % 4 + 1],
    (array['generated', 'claimed', 'redeemed'])[n % 3 + 1],
    n % 60 = 0,
    n % 25 = 0,
    created,
    case when n % 3 > 0 then created + interval '2 days' end,
    case when n % 3 = 2 then created + interval '9 days 3 hours' end,
    case when n % 8 > 0 then created + interval '90 days' end,
    case when n % 4 in (0, 3) then (n % 40 + 1) * 2.50 end,
    case when n % 4 in (0, 3) then (n % 40 + 1) * 2.50 end,
    case when n % 3 = 2 and n % 4 in (0, 3) then (n % 40 + 1) * 2.50 end,
    case when n % 4 = 1 then (n % 20 + 5) / 100.0 end,
    'EUR',
    (300 + n % 12)::int,
    (array['birthday', 'loyalty', 'win-back'])[n % 3 + 1],
    (array['Happy birthday', '10 % off, this week', 'We miss you', 'Free "tea"'])[n % 4 + 1],
    case when n % 2 = 0 then 'A gift for you' end,
    null,
    $3::bigint + n * 3,
    case when n % 3 = 2 then 'POS' || lpad((n % 60)::text, 3, '0') || '-' || n end
from generate_series(1, $2::bigint) n,
    lateral (select timestamptz '2025-01-01 00:00:00+00' + n * (interval '500 days' / $2::bigint) as created) c
