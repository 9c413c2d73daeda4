-- The schema that the demo fills and the default catalog describes.

create schema loyalty;

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
create table loyalty.demo (rows bigint not null);
