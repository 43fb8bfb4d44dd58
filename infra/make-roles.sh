#!/bin/sh
# Run by PostgreSQL's image when its data folder is made: two roles, of which each owns one database and enters no other.
# The registry's role makes schemas in its own: one for each lake, and one for the tables that its pipelines load there.
set -eu
for name in prefect registry; do
    ROLE=$name FILE=${SECRETS:-/run/secrets}/${name}_password \
        psql --no-psqlrc --set ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname postgres <<'SQL'
\set role `printf %s "$ROLE"`
\set password `cat "$FILE"`
CREATE ROLE :"role" LOGIN PASSWORD :'password';
CREATE DATABASE :"role" OWNER :"role";
REVOKE ALL ON DATABASE :"role" FROM PUBLIC;
SQL
done
