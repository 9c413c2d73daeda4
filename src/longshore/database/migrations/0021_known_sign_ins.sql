-- Accounts that signed in lately, each with the network that they came from: they have a share of the checks of passwords.

create table longshore.known_sign_ins (
    -- SHA-256 of account and network.
    key bytea primary key,
    at timestamptz not null default now()
);
