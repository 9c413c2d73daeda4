-- The schema that the demo fills and the default catalog describes: a table for each index, as a chain's own
-- operational database would hold them or show them in views.

create schema loyalty;

create table loyalty.products (
    id bigint primary key,
    chain_id bigint not null,
    owner_code text not null,
    name text not null,
    description text,
    brand text,
    season text,
    category text,
    price numeric(12, 2),
    cost_price numeric(12, 2),
    unit text not null,
    is_promotional boolean not null,
    web_url text,
    image_url text,
    created_date timestamptz not null,
    last_modified_date timestamptz not null
);

create table loyalty.product_variants (
    id bigint primary key,
    chain_id bigint not null,
    product_id bigint not null,
    product_owner_code text not null,
    owner_code text not null,
    barcode text,
    name text not null,
    size text,
    colour text,
    condition text,
    price numeric(12, 2),
    cost_price numeric(12, 2),
    is_promotional boolean not null,
    web_url text,
    image_url text,
    last_modified_date timestamptz not null
);

create table loyalty.users (
    id bigint primary key,
    chain_id bigint not null,
    member_number text not null,
    username text,
    first_name text,
    last_name text,
    gender text,
    birthday date,
    phone_number text,
    language text,
    country text,
    address_streetname text,
    address_housenumber text,
    address_towncity text,
    address_postalcode text,
    created_date timestamptz not null,
    last_modified_date timestamptz not null,
    registered boolean not null,
    is_employee boolean not null,
    obfuscated boolean not null,
    mailing_list_subscribed boolean not null,
    printed_mailing_list_subscribed boolean not null,
    programme_opted_in boolean not null,
    programme_join_date timestamptz,
    loyalty_level text,
    points_balance numeric(12, 2) not null,
    recency integer,
    frequency integer,
    monetary integer,
    average_basket_value numeric(12, 2),
    number_of_purchases integer not null,
    days_since_last_purchase integer,
    favourite_store integer,
    referral_code text
);

create table loyalty.vouchers (
    id bigint primary key,
    chain_id bigint not null,
    voucher_key text not null,
    type text not null,
    status text not null check (status in ('generated', 'claimed', 'redeemed')),
    locked boolean not null,
    deleted boolean not null,
    date_time_created timestamptz not null,
    date_time_claimed timestamptz,
    date_time_redeemed timestamptz,
    date_time_expiry timestamptz,
    amount numeric(12, 2),
    amount_original numeric(12, 2),
    amount_redeemed numeric(12, 2),
    discount_ratio numeric(5, 4),
    currency_code text not null,
    campaign_id integer not null,
    campaign_type text not null,
    campaign_title text not null,
    title text,
    notes text,
    user_id bigint,
    redeeming_basket_code text
);

create table loyalty.transactions (
    id bigint primary key,
    chain_id bigint not null,
    retailer_basket_code text not null,
    "timestamp" timestamptz not null,
    type text not null,
    store_id integer not null,
    store_name text not null,
    user_id bigint,
    member_number text,
    currency_code text not null,
    quantity numeric(12, 3) not null,
    subtotal numeric(12, 2) not null,
    total numeric(12, 2) not null,
    tax numeric(12, 2) not null,
    shipping_charge numeric(12, 2),
    payment_method text not null,
    vouchers text[] not null,
    employee_code text,
    notes text,
    items jsonb not null
);

create table loyalty.wallet_ledger (
    id bigint primary key,
    chain_id bigint not null,
    "timestamp" timestamptz not null,
    kind text not null,
    amount numeric(12, 2) not null,
    balance numeric(12, 2) not null,
    currency_id integer not null,
    currency_symbol text not null,
    user_id bigint not null,
    member_number text not null,
    wallet_campaign_id integer not null,
    wallet_campaign_title text not null,
    wallet_campaign_type text not null,
    contributing_campaign_id integer,
    contributing_campaign_title text,
    contributing_campaign_type text,
    branch_business_id integer,
    receipt_id bigint,
    retailer_basket_code text,
    return_transaction_receipt_id bigint,
    return_transaction_retailer_basket_code text,
    mutator_id integer,
    mutator_name text,
    comment text
);

-- How many entries the demo wrote for its largest chain; a schema without this table is not the demo's to touch.
create table loyalty.demo (rows bigint not null, version integer not null);

-- Exports read as this role, for which the policies below hold. Who may not create roles goes without.
do $$
begin
    create role longshore_export nologin;
exception
    when duplicate_object or unique_violation or insufficient_privilege then null;
end
$$;

do $$
declare
    name text;
begin
    foreach name in array array[
        'products', 'product_variants', 'users', 'vouchers', 'transactions', 'wallet_ledger'
    ] loop
        execute format('alter table loyalty.%I enable row level security', name);
        -- In a subquery, it is looked up once and not for each row.
        execute format(
            'create policy of_chain on loyalty.%I '
            'using (chain_id = (select nullif(current_setting(''longshore.chain'', true), '''')::bigint))',
            name
        );
    end loop;
    grant longshore_export to current_user;
    grant usage on schema loyalty to longshore_export;
    grant select on all tables in schema loyalty to longshore_export;
exception
    when undefined_object or insufficient_privilege then null;
end
$$;
