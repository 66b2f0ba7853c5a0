-- The rest of the operators' words: edited content, another planned time, a later deadline, and words that
-- are bound to the version of the control row that their speaker saw.

-- An operator's word and its audit row, once for a command id; a closing push stays closing.
-- p_what: pause | resume | drain | close | set | edit | reschedule | extend. p_args:
--   any word    "if_version": refused unless the control row has this version
--   pause drain close edit   "reason"
--   close       "verdict"
--   set         "pace" ("Infinity" removes it), "content_version", "deadline", "send_at"
--   edit        "message" and "kind" (whom it addresses), "content" (its reference): the audit keeps this alone
--   reschedule  "send_at"
--   extend      "deadline"
create or replace function command(
  p_push_no bigint, p_command_id uuid, p_who text, p_way text, p_what text, p_args jsonb) returns jsonb
language plpgsql as $$
declare
  c push;
  old_word jsonb;
  known jsonb;
  refusal text;
  already boolean;
  edited smallint;
  new_send_at timestamptz := (p_args->>'send_at')::timestamptz;
  new_deadline timestamptz := (p_args->>'deadline')::timestamptz;
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
  if p_what = 'edit' then
    select max(version) into edited from push_content
    where push_no = p_push_no and message = p_args->'message';
  end if;
  already := case p_what
    when 'pause' then c.hold = 2
    when 'resume' then c.hold = 0
    when 'drain' then c.hold = 1
    when 'close' then c.hold = 3 and c.verdict = p_args->>'verdict'
    when 'edit' then c.hold < 3 and edited is not distinct from c.content_version
    when 'reschedule' then c.hold < 3 and c.started_at is null and c.send_at = new_send_at
    when 'extend' then c.hold < 3 and c.deadline = new_deadline and now() < c.deadline
    else false
  end;
  refusal := case
    when c.closed_at is null and (p_args->>'if_version')::int <> c.control_version
      then format(
        'a newer command holds (version %s, by %s): look at the push and say it again',
        c.control_version,
        coalesce((select who from audit a where a.push_no = p_push_no order by at desc limit 1), 'nobody'))
    when already then null
    when c.closed_at is not null
      then format('closed: %s. A closed push stays closed: start another, or retry its failures', c.verdict)
    when c.hold = 3 then 'closing: ' || c.verdict
    when p_what not in ('pause', 'resume', 'drain', 'close', 'set', 'edit', 'reschedule', 'extend')
      then 'unknown command'
    when p_what = 'pause' and c.hold = 1 then 'draining: resume or cancel it' -- resume would forget the drain
    when p_what = 'close' and coalesce(p_args->>'verdict', '') not in ('completed', 'cancelled', 'expired', 'failed')
      then 'close needs a verdict'
    when p_what = 'close' and p_args->>'verdict' = 'expired' and now() < c.deadline
      then 'the deadline was moved meanwhile'
    when new_send_at is not null and c.started_at is not null
      then format('it has started (%s): pause or cancel it', moment(c.started_at))
    when new_send_at <= now()
      then format('the time is past (it is %s): give a later one; a few seconds ahead sends at once', moment(now()))
    when new_send_at >= c.deadline
      then format('its deadline is %s: extend that first, or give an earlier time', moment(c.deadline))
    when new_deadline <= now()
      then format('the deadline is past (it is %s): give a later one, or cancel the push', moment(now()))
    when new_deadline <= c.send_at and c.started_at is null
      then format('it is planned for %s: the deadline must be later', moment(c.send_at))
    when (p_args->>'pace')::real <= 0 then 'pace must be positive'
    when p_args ? 'content_version' and not exists (
      select from push_content
      where push_no = p_push_no and version = (p_args->>'content_version')::smallint) then 'no such content version'
    when p_what = 'edit' and (p_args->>'kind')::smallint <> c.kind
      then 'the message is of a push type that addresses other registrations: start another push for it'
  end;
  if refusal is null and not already then
    if p_what = 'edit' and edited is null then
      insert into push_content (push_no, version, message)
      select p_push_no, max(version) + 1, p_args->'message' from push_content where push_no = p_push_no
      returning version into edited;
    end if;
    update push set
      control_version = control_version + 1,
      hold = case p_what when 'pause' then 2 when 'resume' then 0 when 'drain' then 1 when 'close' then 3 else hold end,
      hold_by = case
        when p_what in ('pause', 'drain', 'close') then p_who when p_what <> 'resume' then hold_by end,
      hold_reason = case
        when p_what in ('pause', 'drain', 'close') then p_args->>'reason' when p_what <> 'resume' then hold_reason end,
      verdict = case p_what when 'close' then p_args->>'verdict' end,
      pace = coalesce((p_args->>'pace')::real, pace),
      content_version = coalesce(edited, (p_args->>'content_version')::smallint, content_version),
      deadline = coalesce(new_deadline, deadline),
      send_at = coalesce(new_send_at, send_at)
    where push_no = p_push_no
    returning * into c;
  end if;
  reply := jsonb_build_object(
    'ok', refusal is null, 'error', refusal, 'already', already, 'version', c.control_version, 'hold', c.hold);
  insert into audit (command_id, push_no, who, way, what, args, before, after, answer)
  values (
    p_command_id, p_push_no, p_who, p_way, p_what, p_args - 'message', old_word, control_word(c), reply);
  return reply;
end $$;

-- A moment as refusals name it.
create function moment(p_at timestamptz) returns text
language sql immutable as $$
  select to_char(p_at at time zone 'UTC', 'YYYY-MM-DD HH24:MI:SS') || ' UTC'
$$;
