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
select
  c.relname as name, format('drop table if exists clarion.%I', c.relname) as statement,
  extract(epoch from to_date(right(c.relname, 8), 'YYYYMMDD'))::bigint << 20 as lo,
  extract(epoch from to_date(right(c.relname, 8), 'YYYYMMDD') + 1)::bigint << 20 as hi
from pg_class c
where c.relnamespace = 'clarion'::regnamespace and c.relkind = 'r' and not c.relispartition
  and c.relname ~ '^(delivery|batch)_[0-9]{8}$'
  and to_date(right(c.relname, 8), 'YYYYMMDD') < (coalesce($2::timestamptz, now()) at time zone 'UTC')::date - $1::int
order by c.relname desc

-- name: ranges
-- How the audiences of a dropped day had been cut: of no use without their rows. $1 first push $2 beyond the last
delete from audience_range r using push p
where r.push_no >= $1 and r.push_no < $2 and p.push_no = r.push_no and p.closed_at is not null

-- name: contents
-- Messages that were neither stored nor named for so long. What a push says lies beside the push; an open
-- campaign has its content in here until its last stage is opened. $1 days $2 now (null: the clock's)
with gone as (
  delete from content x
  where x.created_at < coalesce($2::timestamptz, now()) - make_interval(days => $1)
    and not exists (
      select from campaign c
      where c.closed_at is null and c.app_no = x.app_no and x.digest in (c.content, c.approved_content))
  returning 1
)
select count(*) from gone

-- name: forget_lists
-- The same of user lists that no open push or campaign names: nobody finds them any more. Their members go piece
-- by piece afterwards. $1 days $2 now (null: the clock's)
update user_list l set digest = convert_to('dropped ' || list_no, 'UTF8')
where l.created_at < coalesce($2::timestamptz, now()) - make_interval(days => $1) and octet_length(l.digest) = 32
  and not exists (
    select from push p
    where p.closed_at is null and p.app_no = l.app_no
      and p.spec->'audience'->>'user_list' = 'list:' || encode(l.digest, 'hex'))
  and not exists (
    select from campaign c
    where c.closed_at is null and c.app_no = l.app_no
      and c.spec->'audience'->>'user_list' = 'list:' || encode(l.digest, 'hex'))

-- name: forgotten_lists
select list_no from user_list where octet_length(digest) <> 32 order by list_no

-- name: empty_list
-- A piece of a forgotten list. $1 list $2 how many
with piece as (
  select user_id from user_list_member where list_no = $1 order by user_id limit $2
), gone as (
  delete from user_list_member m using piece where m.list_no = $1 and m.user_id = piece.user_id returning 1
)
select count(*) from gone

-- name: drop_list
delete from user_list where list_no = $1
