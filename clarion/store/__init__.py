"""PostgreSQL through asyncpg: one module per aggregate, named SQL in .sql files beside it, migrations."""
