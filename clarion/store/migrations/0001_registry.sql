-- The registry: apps, credentials, users, devices and their addresses at providers.
-- Numbers are identities and are never reused.

create table app (
  app_no int generated always as identity primary key,
  name text not null unique check (name ~ '^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$'),
  lane_order smallint[] not null default '{}', -- which lane a phone with several addresses is reached through first
  created_at timestamptz not null default now()
);

-- A lane is the number of a credential in its app: APNs sandbox and production are two.
create table credential (
  app_no int not null references app,
  lane smallint not null,
  name text not null,
  provider text not null,
  environment text,
  topic text,
  endpoint text,
  settings jsonb not null default '{}', -- nothing secret: {"ca": PEM, "allow": ["127.0.0.1/32"]}
  ceiling real not null default 'Infinity', -- sends per second
  version int not null default 1, -- counts rotations
  secret bytea, -- sealed: AES-GCM under CLARION_KEY
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  primary key (app_no, lane),
  unique (app_no, name)
);

-- How a credential is doing; no row = open. Apart from the credential because senders write it.
create table credential_state (
  app_no int not null,
  lane smallint not null,
  blocked boolean not null,
  reason smallint not null default 0,
  version int not null default 1,
  since timestamptz not null default now(),
  primary key (app_no, lane)
) with (fillfactor = 50);

-- The one APNs or OAuth string that all processes share, sealed like the credential.
create table provider_token (
  app_no int not null,
  lane smallint not null,
  purpose text not null default '',
  credential_version int not null,
  token bytea,
  issued_at timestamptz,
  expires_at timestamptz,
  refreshing_until timestamptz, -- single flight: who fetches a new one holds this for seconds
  primary key (app_no, lane, purpose)
);

create table locale (
  locale_no smallint generated always as identity primary key,
  tag text not null unique -- lower case, hyphens
);
insert into locale (tag) values ('');

create table reason (
  reason_no smallint generated always as identity (start with 100) primary key, -- below 100: clarion.model.ledger.Reason
  name text not null unique -- "apns:Unregistered"
);

create table usr (
  user_no bigint generated always as identity primary key,
  app_no int not null references app,
  user_id text not null,
  locale smallint,
  zone text,
  optout int not null default 0, -- one bit a campaign kind
  tags text[],
  attributes jsonb,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  unique (app_no, user_id)
);

create table device (
  device_no bigint generated always as identity primary key,
  app_no int not null,
  installation uuid not null,
  user_no bigint not null,
  platform smallint not null, -- 1 ios 2 android 3 web
  app_version text,
  model text,
  os_version text,
  locale smallint,
  zone text,
  created_at timestamptz not null default now(),
  updated_at timestamptz not null default now(),
  last_active timestamptz not null default now(),
  unique (app_no, installation)
);

create table registration (
  registration_no bigint generated always as identity primary key,
  device_no bigint not null,
  user_no bigint not null, -- repeated from device: the freeze reads users in order
  app_no int not null,
  lane smallint not null,
  kind smallint not null default 1, -- clarion.model.message.Kind
  status smallint not null default 1, -- 1 active 2 inactive 3 unregistered
  registered_at timestamptz not null default now(),
  retired_at timestamptz,
  retired_reason smallint,
  token text not null check (token !~ '[[:cntrl:]\\]'), -- Web Push: "endpoint p256dh auth"
  unique (device_no, lane, kind)
);
create unique index registration_token on registration (app_no, lane, sha256(token::bytea));
create index registration_user on registration (user_no) where status = 1;

-- Content and user lists are stored before a start and travel by reference.
create table content (
  app_no int not null references app,
  digest bytea not null,
  message jsonb not null,
  created_at timestamptz not null default now(),
  primary key (app_no, digest)
);

create table user_list (
  list_no int generated always as identity primary key,
  app_no int not null references app,
  digest bytea not null,
  size int not null,
  created_at timestamptz not null default now(),
  unique (app_no, digest)
);

create table user_list_member (
  list_no int not null references user_list on delete cascade,
  user_id text not null,
  primary key (list_no, user_id)
);

create table worker (
  worker_no int generated always as identity primary key, -- "process" everywhere: never reused
  host text not null,
  pid int not null,
  queues text[] not null,
  started_at timestamptz not null default now(),
  seen_at timestamptz not null default now()
) with (fillfactor = 50);
