-- A schedule that was cancelled, or that cannot be computed, stays ended when its task is executed by hand.

alter table longshore.tasks
    -- Whether only a changed trigger gives the task further times.
    add column schedule_ended boolean not null default false;
