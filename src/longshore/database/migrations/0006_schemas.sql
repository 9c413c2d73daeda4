-- What the fingerprints of fields stood for that tasks pin, so that a run can say what has changed since.

create table longshore.schemas (
    chain_id bigint not null,
    fingerprint text not null,
    -- Names and types, in order.
    fields json not null,
    primary key (chain_id, fingerprint)
);

-- Whether the rows that are expected were counted, or are the planner's estimate.
alter table longshore.runs add column rows_expected_exact boolean not null default false;
