-- How many attempts of a run failed or were lost; those that a worker handed back as it shut down do not count.

alter table longshore.runs add column failures integer not null default 0;
