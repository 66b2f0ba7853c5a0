-- Leased rates. Unlogged: rates are good for 1.25 s, and a dealer that finds nothing starts anew.

create function clock() returns float8 language sql volatile as
  'select extract(epoch from clock_timestamp())::float8';

create unlogged table dealer ( -- who deals: one row, fenced by its epoch
  one boolean primary key default true check (one),
  epoch bigint not null, -- microseconds: also after a crash nobody had it before
  number bigint not null, -- of the last deal
  dealt_at float8 not null, -- clock()
  taken_at float8 not null, -- when the epoch began
  lanes json not null -- what was learned of them, for the next dealer and for operators
) with (fillfactor = 20);

create unlogged table sender_ask (
  process int primary key,
  at float8 not null,
  read bigint not null, -- number of the rates that it goes by, 0 = none
  ask json not null
) with (fillfactor = 20);

create unlogged table sender_rates (
  process int primary key,
  number bigint not null, -- the deal that wrote them
  rates json not null
) with (fillfactor = 20);
