-- Stored segments: filters that tasks name by id instead of carrying them.

create table longshore.segments (
    id uuid primary key default gen_random_uuid(),
    chain_id bigint not null,
    name text not null,
    -- The export index that it is for; it stays the same, as tasks of that index rely on it.
    index text not null,
    segment json not null,
    created_at timestamptz not null default now(),
    modified_at timestamptz not null default now()
);

-- The list of a chain, newest first.
create index segments_of_chain on longshore.segments (chain_id, created_at desc, id);

-- The stored segment as it was when the run began, so that every attempt of a run takes the same rows.
alter table longshore.runs add column segment json;
