-- Days whose deliveries and batches are no longer kept. Statements come back ready to be executed.

-- name: unfinished
-- Detached by half: a process died, or gave up waiting for somebody's long transaction.
select format('alter table clarion.%I detach partition clarion.%I finalize', p.relname, c.relname)
from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
where i.inhparent in ('clarion.delivery'::regclass, 'clarion.batch'::regclass) and i.inhdetachpending
order by c.relname desc

-- name: old
-- A day is old when it is over, all its pushes were closed so long ago, none of their dead addresses waits to
-- be retired, and no open push tries one of them again. $1 days $2 now (null: the clock's)
with clock as (
  select coalesce($2::timestamptz, now()) - make_interval(days => $1) as since
), part as (
  select p.relname as parent, c.relname as name, to_date(right(c.relname, 8), 'YYYYMMDD') as day
  from pg_inherits i join pg_class c on c.oid = i.inhrelid join pg_class p on p.oid = i.inhparent
  where i.inhparent in ('clarion.delivery'::regclass, 'clarion.batch'::regclass) and not i.inhdetachpending
), span as (
  select part.*, extract(epoch from day)::bigint << 20 as lo, extract(epoch from day + 1)::bigint << 20 as hi
  from part
)
select format('alter table clarion.%I detach partition clarion.%I concurrently', parent, name)
from span, clock
where day + 1 <= (since at time zone 'UTC')::date
  and not exists (
    select from push where push_no >= lo and push_no < hi and (closed_at is null or closed_at > since))
  and not exists (select from retire where push_no >= lo and push_no < hi)
  and not exists (select from push where closed_at is null and retry_of >= lo and retry_of < hi)
order by name desc

-- name: loose
-- What was detached and not yet dropped, deliveries first: a day without its batches has no counts.
-- $1 days $2 now (null: the clock's)
select c.relname as name, format('drop table if exists clarion.%I', c.relname) as statement
from pg_class c
where c.relnamespace = 'clarion'::regnamespace and c.relkind = 'r' and not c.relispartition
  and c.relname ~ '^(delivery|batch)_[0-9]{8}$'
  and to_date(right(c.relname, 8), 'YYYYMMDD') < (coalesce($2::timestamptz, now()) at time zone 'UTC')::date - $1::int
order by c.relname desc
