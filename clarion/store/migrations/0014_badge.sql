-- Badges that count: each phone's own number, and beside each delivery the one that it shows. The column lies
-- in what was padding: rows are no longer than before.
create table badge (
  device_no bigint primary key,
  number smallint not null
);

alter table delivery add column badge smallint not null default 0;
