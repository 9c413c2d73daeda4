-- $1 chain, $2 number of entries, $3 first id. The same arguments make the same entries.
-- One customer has about 25 entries over two years; every figure is drawn from a hash of the entry's number.
insert into loyalty.wallet_ledger
with drawn as (
    select
        n,
        abs(hashint8extended(n, 1)) % greatest($2::bigint / 25, 1) as customer,
        abs(hashint8extended(n, 2)) % 100 as chance,
        abs(hashint8extended(n, 3)) % 10000 as cents,
        abs(hashint8extended(n, 4)) % 60 as store,
        abs(hashint8extended(n, 5)) % 8 as campaign,
        abs(hashint8extended(n, 6)) % 6 as member_of_staff,
        timestamptz '2024-05-01 06:00:00+00' + n * (interval '752 days' / $2::bigint)
            + abs(hashint8extended(n, 7)) % 1000000 * interval '1 microsecond' as at
    from generate_series(1, $2::bigint) n
),
entries as (
    select
        *,
        case
            when chance < 62 then 'campaignContribution'
            when chance < 84 then 'redemption'
            when chance < 92 then 'return'
            when chance < 97 then 'manual'
            else 'expiry'
        end as kind,
        case
            when chance < 62 then cents + 50
            when chance < 84 then -(cents / 2 + 25)
            when chance < 92 then -(cents / 4 + 10)
            when chance < 97 then cents - 3000
            else -(cents / 20 + 1)
        end / 100.0 as amount
    from drawn
)
select
    $3::bigint + n - 1,
    $1::bigint,
    at,
    kind,
    amount,
    sum(amount) over (partition by customer order by n),
    case when customer % 3 = 0 then 1 else 2 end,
    case when customer % 3 = 0 then '€' else 'PTN' end,
    $3::bigint + customer,
    lpad((customer * 7919 % 100000000)::text, 10, '0'),
    case when customer % 3 = 0 then 11 else 12 end,
    case when customer % 3 = 0 then 'Tegoed & cashback' else 'Points' end,
    case when customer % 3 = 0 then 'wallet' else 'points' end,
    case when kind = 'campaignContribution' then 100 + campaign end,
    case when kind = 'campaignContribution' then (array[
        'Welcome gift', 'Double points "Summer"', 'Été à la plage', 'Birthday', 'Cashback 5%, all stores',
        'Black Friday', 'Frühling', 'Refer a friend'])[campaign + 1] end,
    case when kind = 'campaignContribution' then case when campaign in (4, 5) then 'cashback' else 'basic' end end,
    case when kind <> 'expiry' then 2000 + store end,
    case when kind in ('campaignContribution', 'redemption') then $3::bigint + n * 3 end,
    case when kind in ('campaignContribution', 'redemption') then 'POS' || lpad(store::text, 3, '0') || '-' || n end,
    case when kind = 'return' then $3::bigint + n * 3 + 1 end,
    case when kind = 'return' then 'RET' || lpad(store::text, 3, '0') || '-' || n end,
    case when kind = 'manual' then 70 + member_of_staff end,
    case when kind = 'manual' then (array['Till 1', 'Till 2', 'Service desk', 'Head office', 'Store manager', 'Web shop'])
        [member_of_staff + 1] end,
    case when n % 20000 = 77 then E'Asked by phone\nand confirmed by letter'
        when kind = 'manual' then (array['Goodwill after complaint', 'Missed at the till', '',
        'Corrected twice, see "case 118"', 'Gift card, 10,00'])[cents % 5 + 1] end
from entries
order by n
