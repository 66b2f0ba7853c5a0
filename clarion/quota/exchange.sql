-- None of these needs to survive a crash, so none waits for the disk.

-- name: exchange
-- $1 process, $2 number of the rates that it goes by, $3 ask. The rates come only if they are others.
with mine as (
  select number, rates from sender_rates where process = $1
), put as (
  insert into sender_ask (process, at, read, ask) values ($1, clock(), $2, $3)
  on conflict (process) do update set at = excluded.at, read = excluded.read, ask = excluded.ask
)
select clock() as clock, d.number as deal, d.dealt_at, m.number,
  case when m.number <> $2 then m.rates end as rates
from set_config('synchronous_commit', 'off', true)
  left join dealer d on true left join mine m on true;

-- name: take_over
-- Only when nobody has dealt or taken over for a second, or did so in a time that a clock set back has yet
-- to reach. No row: another process deals.
insert into dealer (epoch, number, dealt_at, taken_at, lanes)
select (now * 1e6)::bigint, (now * 10)::bigint, now, now, '{}'
from set_config('synchronous_commit', 'off', true), clock() as now
on conflict (one) do update
set epoch = greatest(dealer.epoch + 1, excluded.epoch), taken_at = excluded.taken_at
where abs(excluded.taken_at - greatest(dealer.dealt_at, dealer.taken_at)) > 1
returning epoch, number, lanes, taken_at as clock, dealt_at;

-- name: dealt
select process, number, rates from sender_rates;

-- name: asks
-- $1 seconds after which a process counts as dead
select c.clock, a.process, a.at, a.read, a.ask
from (select clock() as clock) c left join sender_ask a on a.at > c.clock - $1;

-- name: limits
-- $1, $2 app and number of the lanes; $3 pushes
select asked.app_no || '.' || asked.lane as lane, null::bigint as push_no, c.ceiling as rate, null::real as weight,
  extract(epoch from s.since)::float8 as reopened
from unnest($1::int[], $2::smallint[]) as asked (app_no, lane)
  join credential c using (app_no, lane)
  left join credential_state s on s.app_no = c.app_no and s.lane = c.lane and not s.blocked
union all
select null, push_no, pace, weight, null from push where push_no = any($3::bigint[]);

-- name: write
-- $1 epoch, $2 number, $3 lanes, $4 and $5 processes and their rates, as far as they changed.
-- No row: another process deals.
with mine as (
  update dealer d set number = $2, dealt_at = clock(), lanes = $3
  from set_config('synchronous_commit', 'off', true) where d.epoch = $1
  returning d.number
), put as (
  insert into sender_rates (process, number, rates)
  select v.process, mine.number, v.rates from mine, unnest($4::int[], $5::json[]) as v (process, rates)
  on conflict (process) do update set number = excluded.number, rates = excluded.rates
)
select number from mine;

-- name: lanes
select clock() - dealt_at as age, lanes from dealer;

-- name: sweep
-- $1 seconds without an exchange after which nobody comes back
with gone as (
  delete from sender_ask where at < clock() - $1 returning process
), rates as (
  delete from sender_rates r where r.process in (select process from gone)
    or not exists (select from sender_ask a where a.process = r.process)
)
select count(*) from gone;
