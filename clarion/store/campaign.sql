-- Campaigns: opened, advanced, steered, closed.

-- name: known
-- $1 campaign $2 spec hash
select
  case when spec_hash <> $2 then 'different' when closed_at is null then 'open' else 'closed' end as opened
from campaign where campaign_id = $1

-- name: look
-- What a start refers to; its content is kept for it. $1 app $2 digest of its content $3 the ids that its pushes
-- will have
with used as (
  update content c set created_at = now() from app a
  where a.name = $1 and c.app_no = a.app_no and c.digest = $2 and c.created_at < now() - interval '1 day'
)
select
  a.app_no, c.message,
  array(select push_id from push where push_id = any ($3::text[]) order by 1) as taken
from app a left join content c on c.app_no = a.app_no and c.digest = $2
where a.name = $1

-- name: open
-- One campaign for an id, for ever: of concurrent openers one wins, all read the same.
-- $1 campaign $2 app $3 spec $4 spec hash $5 pace $6 deadline $7 digest of its content $8 planned time $9 message
-- $10 who started it
with stored as (
  insert into content (app_no, digest, message) values ($2, $7, $9::jsonb)
  on conflict (app_no, digest) do update set created_at = now()
), opened as (
  insert into campaign (campaign_id, app_no, spec, spec_hash, pace, deadline, content, next_at)
  values (
    $1, $2, $3, $4, coalesce($5::real, 'Infinity'), coalesce($6::timestamptz, 'infinity'), $7,
    coalesce($8::timestamptz, '-infinity'))
  on conflict (campaign_id) do update set spec_hash = campaign.spec_hash -- nothing new, but the row is read
  returning
    campaign_word(campaign) as word,
    case
      when old.campaign_id is null then 'new'
      when old.spec_hash <> $4 then 'different'
      when old.closed_at is null then 'open'
      else 'closed'
    end as opened
), said as (
  insert into audit (command_id, campaign_id, who, way, what, args, before, after, answer)
  select
    gen_random_uuid(), $1, $10, 'start', 'start', jsonb_build_object('send_at', $8::timestamptz), '{}', word,
    '{"ok": true}'
  from opened where opened = 'new'
)
select opened from opened

-- name: lock
select campaign_id from campaign_locked($1) where campaign_id is not null

-- name: stand
-- How a campaign stands. $1 campaigns
select
  c.campaign_id, a.name as app, c.spec, c.spec->>'title' as title, campaign_status(c) as status,
  c.hold, c.hold_by, c.hold_reason, c.control_version as version, c.verdict,
  'content:' || encode(c.content, 'hex') as content, c.content_version,
  c.approved_by, c.approved_at, nullif(c.pace, 'Infinity') as pace, nullif(c.deadline, 'infinity') as deadline,
  c.stage, nullif(c.next_at, '-infinity') as next_at, nullif(c.approve_by, 'infinity') as approve_by,
  campaign_waits(c) as waits, campaign_verdict(c) as ends, campaign_needs_approval(c) as needs_approval,
  c.created_at, c.closed_at, c.result, clock_timestamp() as at
from campaign c join app a using (app_no)
where c.campaign_id = any ($1::text[])
order by c.created_at desc, c.campaign_id

-- name: pushes
-- The pushes of campaigns, in the order of their stages. $1 campaigns
select
  x.campaign_id, x.stage, p.push_no, p.push_id,
  case
    when p.closed_at is not null then 'closed'
    when p.hold = 3 then 'closing'
    when p.started_at is null then 'scheduled'
    else 'running'
  end as phase,
  p.hold, p.verdict, p.result, p.spec
from campaign_push x join push p using (push_no)
where x.campaign_id = any ($1::text[])
order by x.campaign_id, x.stage

-- name: opened
-- A stage's push is opened, in the transaction that opened it. $1 campaign $2 stage $3 push
with noted as (
  insert into campaign_push (campaign_id, stage, push_no) values ($1, $2, $3)
)
update campaign set stage = $2 + 1 where campaign_id = $1 and stage = $2

-- name: close
-- $1 campaign $2 verdict $3 reason $4 result
update campaign set
  hold_reason = case hold when 3 then hold_reason else $3 end,
  hold = 3, verdict = $2, closed_at = now(), result = $4
where campaign_id = $1 and closed_at is null

-- name: command
-- $1 campaign $2 command id $3 who $4 way $5 what $6 args
select command_campaign($1, $2, $3, $4, $5, $6)

-- name: list
-- Latest first. $1 app (null: all) $2 only open ones $3 limit
select c.campaign_id from campaign c join app a using (app_no)
where ($1::text is null or a.name = $1) and (not $2 or c.closed_at is null)
order by c.created_at desc, c.campaign_id
limit $3

-- name: of_app
-- $1 campaign
select c.app_no, a.name as app, 'content:' || encode(c.content, 'hex') as content
from campaign c join app a using (app_no) where c.campaign_id = $1

-- name: open_ones
-- Campaigns that should have a running workflow. $1 seconds of grace for one that was opened just now
select campaign_id, hold from campaign
where closed_at is null and created_at < now() - make_interval(secs => $1)
order by created_at
