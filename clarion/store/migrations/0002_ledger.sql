-- The ledger: one row for every delivery, grouped in batches, and one control row for every push.
--
-- Fence claims and decisions, never answers.
--   A claim ("rows up to seq 1200 may be started") is granted to the holder of the batch's epoch, while hold,
--   deadline and credential allow it, and stands in batch.claimed_to before the first byte leaves.
--   An answer (accepted, rejected) is written whoever brings it, however late; the first one stays.
--   A decision (retry, suppressed, dead, in doubt) counts from the holder only, on planned rows.
-- So at every commit it is known what may be on the wire: planned rows up to claimed_to, and rows in doubt.
--
-- Lock order: audience_range, batch (ascending), delivery, push, registration (ascending).

-- ---------------------------------------------------------------------------------------------- pushes

create table push (
  push_no bigint primary key, -- (epoch seconds of the planned time << 20) + n: its UTC day is its partition
  push_id text not null unique,
  spec jsonb not null, -- canonical: without defaults
  spec_hash bytea not null,
  app_no int not null references app,
  campaign_id text,
  retry_of bigint, -- the closed push whose final rows are this one's audience
  dedup_no bigint not null, -- makes the de-duplication key: its own number, or its predecessor's dedup_no
  priority smallint not null default 3, -- 1 high, 3 normal, 5 low
  kind smallint not null default 1, -- which registrations it addresses
  mask int not null default 0, -- which opt-out bits keep it away from a user
  guarantee smallint not null default 1, -- 1 at least once, 2 at most once
  weight real not null default 1, -- its share of a lane's rate beside other pushes

  created_at timestamptz not null default now(),
  send_at timestamptz not null default now(), -- planned
  started_at timestamptz, -- its audience was planned
  estimated_rows bigint not null default 0,
  batch_size int not null default 1000,
  ranges int not null default 0,
  retired int not null default 0, -- registrations that its answers have ended

  -- the control row: read with every claim
  control_version int not null default 0,
  hold smallint not null default 0, -- 0 none, 1 draining, 2 paused, 3 closing (for ever)
  hold_by text, -- who said so …
  hold_reason text, -- … and why
  pace real not null default 'Infinity', -- sends per second
  content_version smallint not null default 1,
  deadline timestamptz not null default 'infinity',
  verdict text check (verdict in ('completed', 'cancelled', 'expired', 'failed')), -- with hold 3

  closed_at timestamptz,
  result jsonb
) with (fillfactor = 50);
create index push_open on push (push_no) where closed_at is null;
create index push_campaign on push (campaign_id, push_no) where campaign_id is not null;
create index push_retries on push (dedup_no) where retry_of is not null;
create sequence push_n cycle maxvalue 1048575;

-- What a push says. Versions are immutable: a window never mixes two.
create table push_content (
  push_no bigint not null references push on delete cascade,
  version smallint not null,
  message jsonb not null,
  created_at timestamptz not null default now(),
  primary key (push_no, version)
);

-- Who said what to a push (or a lane), and what it changed. A command is repeatable by its id.
create table audit (
  command_id uuid primary key,
  push_no bigint,
  at timestamptz not null default now(),
  who text not null,
  way text not null, -- update | signal | direct | clarion
  what text not null,
  args jsonb not null default '{}',
  before jsonb,
  after jsonb,
  answer jsonb not null
);
create index audit_push on audit (push_no, at);

-- The audience is planned as ranges; each is frozen by one transaction.
create table audience_range (
  push_no bigint not null,
  range_no int not null,
  what smallint not null, -- 0 users lo <= user_no < hi; 1 fallback, 2 retry: batches lo <= batch < hi of of_push
  lo bigint not null,
  hi bigint not null,
  of_push bigint not null,
  frozen_at timestamptz,
  primary key (push_no, range_no),
  unique (push_no, what, of_push, lo)
);

-- The span of an app's users is looked up when a push is planned.
create index usr_app on usr (app_no, user_no);

-- ------------------------------------------------------------------------------- batches and deliveries

create table batch (
  push_no bigint not null,
  batch int not null, -- range_no * 10000 + k
  lane smallint not null,
  size int not null, -- rows, for ever
  opens_at timestamptz not null default '-infinity', -- its wave
  epoch int not null default 0, -- whose claims and decisions count; +1 at every take and release
  owner uuid,
  process int,
  lease_until timestamptz, -- by the database's clock only
  claimed_to smallint not null default -1, -- planned rows up to here may have been sent
  begun boolean not null default false, -- a claim was granted once
  takes smallint not null default 0, -- attempts in a row without a sign of life
  due_at timestamptz, -- not later than the first of its retries
  closed smallint not null default 0, -- 5|6: whatever is still open here counts as expired|cancelled
  retry int not null default 0,
  accepted int not null default 0,
  rejected int not null default 0,
  suppressed int not null default 0,
  expired int not null default 0,
  cancelled int not null default 0,
  dead int not null default 0,
  in_doubt int not null default 0,
  redo int not null default 0, -- rows that a dead attempt may have sent
  maybe int not null default 0, -- sends without an answer
  open int generated always as ( -- planned + retry
    size - accepted - rejected - suppressed - expired - cancelled - dead - in_doubt) virtual,
  primary key (push_no, batch)
) partition by range (push_no);

create table delivery (
  push_no bigint not null,
  user_no bigint not null,
  registration_no bigint not null,
  at timestamptz not null, -- of the last outcome; in state 1: when it may go again
  batch int not null,
  seq smallint not null,
  -- open: 0 planned, 1 retry | answers: 2 accepted, 3 rejected | decisions: 4 suppressed, 5 expired, 7 dead,
  -- 8 in doubt. 6 cancelled, and most of 5, are said by batch.closed alone: closing costs O(batches).
  state smallint not null default 0,
  reason smallint not null default 0,
  variant smallint not null default 0,
  locale smallint not null default 0,
  content_version smallint not null default 0,
  attempt smallint not null default 0,
  doubt boolean not null default false, -- an earlier send may have arrived: ends as an answer or in doubt
  primary key (push_no, batch, seq)
) partition by range (push_no);
create index delivery_user on delivery (user_no, push_no);

-- Addresses that an answer has killed, until they are retired (or dropped: the 30 % rule).
create table retire (
  push_no bigint not null,
  batch int not null,
  seq smallint not null,
  lane smallint not null,
  registration_no bigint not null,
  seen timestamptz not null, -- dead since; registered again after that, it lives
  reason smallint not null,
  primary key (push_no, batch, seq)
);

-- The truth of each delivery.
create view delivery_now as
select
  d.push_no, d.batch, d.seq, d.user_no, d.registration_no, b.lane,
  case when d.state < 2 and b.closed > 0 then b.closed else d.state end as state,
  d.reason, d.variant, d.locale, d.content_version, d.attempt, d.at, d.doubt
from delivery d
join batch b using (push_no, batch);

-- The promise: audience = the sum of everything else.
create view push_counts as
select
  push_no, lane,
  sum(size) as audience, sum(open - retry) as planned, sum(retry) as retry,
  sum(accepted) as accepted, sum(rejected) as rejected, sum(suppressed) as suppressed,
  sum(expired) as expired, sum(cancelled) as cancelled, sum(dead) as dead, sum(in_doubt) as in_doubt,
  sum(redo) as redo, sum(maybe) as maybe
from batch
group by push_no, lane;

-- Partitions of one UTC day, made once. CREATE and ATTACH take no exclusive lock on the parent.
create function make_day(p_day date) returns boolean
language plpgsql as $$
declare
  lo bigint := extract(epoch from p_day)::bigint << 20;
  hi bigint := extract(epoch from p_day + 1)::bigint << 20;
  parent text;
  part text;
begin
  foreach parent in array array['delivery', 'batch'] loop
    part := parent || to_char(p_day, '_YYYYMMDD');
    continue when to_regclass('clarion.' || part) is not null;
    perform pg_advisory_xact_lock(7141, 1);
    -- Asked again by a query: to_regclass answers from a cache that the wait has not refreshed.
    perform from pg_class where relname = part and relnamespace = 'clarion'::regnamespace;
    continue when found;
    execute format(
      'create table clarion.%I (like clarion.%I including defaults including constraints including generated) '
      'with (fillfactor = 50, autovacuum_vacuum_scale_factor = %s)',
      part, parent, case parent when 'batch' then 0.05 else 0.1 end);
    execute format(
      'alter table clarion.%I attach partition clarion.%I for values from (%s) to (%s)', parent, part, lo, hi);
  end loop;
  return true;
end $$;

-- ------------------------------------------------------------------------------------ attempts at a batch
-- Functions where a statement must see what the one before it waited for.

-- An attempt takes a batch: the epoch becomes its own. What an attempt that ended without release may have
-- sent is marked (at most once: in doubt), retries that are due become planned where they are.
-- epoch null: not taken, `why` says the reason, wait_s when it may be worth asking again.
create function take(
  p_push_no bigint, p_batch int, p_owner uuid, p_process int, p_lease interval,
  out epoch int, out why text, out wait_s real, out at timestamptz,
  out careful boolean, -- three attempts died here in a row: one row at a time
  out redone int, out reopened int,
  out lane smallint, out size int, out guarantee smallint, out mask int,
  out content_version smallint, out deadline timestamptz)
language plpgsql as $$
#variable_conflict use_column
declare
  b batch;
  p push;
  poisoned int := 0;
  first_due timestamptz;
begin
  select * into b from batch where push_no = p_push_no and batch = p_batch for no key update;
  if b.batch is null then
    why := 'no such batch';
    return;
  end if;
  select * into p from push where push_no = p_push_no;
  at := now();
  careful := b.takes >= 3;
  redone := 0;
  reopened := 0;
  lane := b.lane;
  size := b.size;
  guarantee := p.guarantee;
  mask := p.mask;
  content_version := p.content_version;
  deadline := nullif(p.deadline, 'infinity');
  wait_s := greatest(extract(epoch from greatest(b.lease_until, b.opens_at) - clock_timestamp()), 0);
  why := case
    when b.closed > 0 then 'closed'
    when p.hold > 1 or p.hold = 1 and not b.begun then 'hold'
    when now() >= p.deadline then 'deadline'
    when exists (
      select from credential_state s where s.app_no = p.app_no and s.lane = b.lane and s.blocked) then 'blocked'
    when b.opens_at > clock_timestamp() then 'early'
    when b.lease_until >= clock_timestamp() and b.owner is distinct from p_owner then 'leased'
  end;
  if why is not null then
    return;
  end if;

  if b.claimed_to >= 0 then -- the last attempt ended without release
    if b.takes >= 6 then
      update delivery set state = 8, reason = 99, at = now()
      where push_no = p_push_no and batch = p_batch and seq = (
        select min(seq) from delivery
        where push_no = p_push_no and batch = p_batch and state = 0 and seq <= b.claimed_to);
      get diagnostics poisoned = row_count;
    end if;
    update delivery set
      doubt = true,
      state = case p.guarantee when 2 then 8 else 0 end,
      reason = case p.guarantee when 2 then 6 else reason end,
      at = now()
    where push_no = p_push_no and batch = p_batch and state = 0 and seq <= b.claimed_to;
    get diagnostics redone = row_count;
  end if;

  first_due := case when b.retry > 0 then b.due_at end; -- late answers may have taken the retries away
  if b.retry > 0 and b.due_at <= now() then
    update delivery set state = 0, at = now()
    where push_no = p_push_no and batch = p_batch and state = 1 and at <= now();
    get diagnostics reopened = row_count;
    select min(at) into first_due from delivery
    where push_no = p_push_no and batch = p_batch and state = 1;
  end if;

  update batch set
    epoch = epoch + 1,
    owner = p_owner,
    process = p_process,
    lease_until = clock_timestamp() + p_lease,
    claimed_to = -1,
    takes = least(takes + 1, 99),
    due_at = first_due,
    retry = retry - reopened,
    redo = redo + redone,
    in_doubt = in_doubt + poisoned + case p.guarantee when 2 then redone else 0 end
  where push_no = p_push_no and batch = p_batch
  returning epoch into epoch;
end $$;

-- -------------------------------------------------------------------------------------------- operators

-- An operator's word and its audit row, once for a command id; a closing push stays closing.
-- p_what: pause | resume | drain | close | set. p_args: {"reason", "verdict", "pace" ("Infinity" removes it),
-- "content_version", "deadline", "send_at"}
create function command(
  p_push_no bigint, p_command_id uuid, p_who text, p_way text, p_what text, p_args jsonb) returns jsonb
language plpgsql as $$
declare
  c push;
  old_word jsonb;
  known jsonb;
  refusal text;
  already boolean;
  reply jsonb;
begin
  select * into c from push where push_no = p_push_no for no key update;
  if not found then
    return '{"ok": false, "error": "no such push"}';
  end if;
  select answer into known from audit where command_id = p_command_id;
  if found then
    return known;
  end if;
  old_word := control_word(c);
  already := case p_what
    when 'pause' then c.hold = 2
    when 'resume' then c.hold = 0
    when 'drain' then c.hold = 1
    when 'close' then c.hold = 3 and c.verdict = p_args->>'verdict'
    else false
  end;
  refusal := case
    when already then null
    when c.hold = 3 then 'closing: ' || c.verdict
    when p_what not in ('pause', 'resume', 'drain', 'close', 'set') then 'unknown command'
    when p_what = 'pause' and c.hold = 1 then 'draining: resume or cancel it' -- resume would forget the drain
    when p_what = 'close' and coalesce(p_args->>'verdict', '') not in ('completed', 'cancelled', 'expired', 'failed')
      then 'close needs a verdict'
    when (p_args->>'deadline')::timestamptz <= now() then 'deadline is past'
    when (p_args->>'pace')::real <= 0 then 'pace must be positive'
    when p_args ? 'content_version' and not exists (
      select from push_content
      where push_no = p_push_no and version = (p_args->>'content_version')::smallint) then 'no such content version'
    when p_args ? 'send_at' and c.started_at is not null then 'it has started'
  end;
  if refusal is null and not already then
    update push set
      control_version = control_version + 1,
      hold = case p_what when 'pause' then 2 when 'resume' then 0 when 'drain' then 1 when 'close' then 3 else hold end,
      hold_by = case p_what when 'set' then hold_by when 'resume' then null else p_who end,
      hold_reason = case p_what when 'set' then hold_reason when 'resume' then null else p_args->>'reason' end,
      verdict = case p_what when 'close' then p_args->>'verdict' end,
      pace = coalesce((p_args->>'pace')::real, pace),
      content_version = coalesce((p_args->>'content_version')::smallint, content_version),
      deadline = coalesce((p_args->>'deadline')::timestamptz, deadline),
      send_at = coalesce((p_args->>'send_at')::timestamptz, send_at)
    where push_no = p_push_no
    returning * into c;
  end if;
  reply := jsonb_build_object(
    'ok', refusal is null, 'error', refusal, 'already', already, 'version', c.control_version, 'hold', c.hold);
  insert into audit (command_id, push_no, who, way, what, args, before, after, answer)
  values (p_command_id, p_push_no, p_who, p_way, p_what, p_args, old_word, control_word(c), reply);
  return reply;
end $$;

-- The control row as people read it in the audit.
create function control_word(p push) returns jsonb
language sql stable as $$
  select jsonb_strip_nulls(jsonb_build_object(
    'version', p.control_version,
    'hold', (array['none', 'draining', 'paused', 'closing'])[p.hold + 1],
    'by', p.hold_by,
    'reason', p.hold_reason,
    'verdict', p.verdict,
    'pace', nullif(p.pace, 'Infinity'),
    'content_version', p.content_version,
    'deadline', nullif(p.deadline, 'infinity'),
    'send_at', p.send_at))
$$;

-- A credential is refused (or works again): in force for all pushes of the app with the next claim.
-- Said again it changes nothing, so that `since` is the first time. Null: as it was before.
create function block_lane(
  p_app_no int, p_lane smallint, p_blocked boolean, p_reason smallint, p_who text, p_way text) returns int
language plpgsql as $$
declare
  new_version int;
begin
  insert into credential_state as s (app_no, lane, blocked, reason)
  values (p_app_no, p_lane, p_blocked, p_reason)
  on conflict (app_no, lane) do update set
    blocked = excluded.blocked, reason = excluded.reason, version = s.version + 1, since = now()
  where s.blocked <> excluded.blocked
  returning version into new_version;
  if new_version is not null then
    insert into audit (command_id, who, way, what, args, answer)
    values (
      gen_random_uuid(), p_who, p_way, case when p_blocked then 'block' else 'unblock' end,
      jsonb_build_object('app_no', p_app_no, 'lane', p_lane, 'reason', p_reason),
      jsonb_build_object('ok', true, 'version', new_version));
  end if;
  return new_version;
end $$;

-- ---------------------------------------------------------------------------------------------- closing

-- Close the books of batches whose lease has run out: rows that were never claimed become cancelled or
-- expired (batch.closed says it), those that may have been sent are in doubt. Repeat until left_open = 0;
-- -1: the push is not closing.
create function close_batches(
  p_push_no bigint, p_reason smallint, p_limit int, out done int, out left_open int)
language plpgsql as $$
declare
  p push;
  b record;
  word smallint;
  unanswered int;
begin
  done := 0;
  select * into p from push where push_no = p_push_no;
  if p.hold is distinct from 3 then
    left_open := -1;
    return;
  end if;
  word := case p.verdict when 'expired' then 5 else 6 end;
  for b in
    select batch.batch, begun, claimed_to from batch
    where push_no = p_push_no and closed = 0 and open > 0
      and (lease_until is null or lease_until < clock_timestamp())
    order by 1 limit p_limit
    for no key update
  loop
    unanswered := 0;
    if b.begun then
      update delivery set state = 8, reason = p_reason, at = now()
      where push_no = p_push_no and batch = b.batch
        and (state = 0 and (doubt or seq <= b.claimed_to) or state = 1 and doubt);
      get diagnostics unanswered = row_count;
    end if;
    update batch set
      closed = word,
      retry = 0,
      in_doubt = in_doubt + unanswered,
      expired = expired + case word when 5 then open - unanswered else 0 end,
      cancelled = cancelled + case word when 6 then open - unanswered else 0 end
    where push_no = p_push_no and batch = b.batch;
    done := done + 1;
  end loop;
  select count(*) into left_open from batch where push_no = p_push_no and closed = 0 and open > 0;
end $$;

-- A push is closed once, and its result stored, when no row is open. Null: something still is.
create function close_push(p_push_no bigint) returns jsonb
language plpgsql as $$
declare
  c push;
  account jsonb;
begin
  select * into c from push where push_no = p_push_no for no key update;
  if c.closed_at is not null then
    return c.result;
  end if;
  if c.hold is distinct from 3
    or exists (select from batch where push_no = p_push_no and closed = 0 and open > 0) then
    return null;
  end if;
  select jsonb_build_object(
    'verdict', c.verdict,
    'not_frozen', (select count(*) from audience_range where push_no = p_push_no and frozen_at is null),
    'started_at', c.started_at,
    'closed_at', now(),
    'lanes', coalesce(jsonb_agg(to_jsonb(x) - 'push_no' order by x.lane), '[]'))
  into account
  from push_counts x where push_no = p_push_no;
  update push set closed_at = now(), result = account where push_no = p_push_no;
  return account;
end $$;
