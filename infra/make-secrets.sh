#!/bin/sh
# Make the secrets of compose.yaml, each a file that only the containers get that need it. Those that are there stay.
set -eu
cd "${1:-$(dirname "$0")}"
mkdir -p secrets
chmod 700 secrets # the files can be read by the containers' users, the folder only by you
cd secrets
umask 022
random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }
keep() { [ -s "$1" ] || printf %s "$2" >"$1"; }
keep superuser_password "$(random)"
keep prefect_password "$(random)"
keep registry_password "$(random)"
keep PREFECT_API_AUTH_STRING "lookbook:$(random)"
keep PREFECT_SERVER_API_AUTH_STRING "$(cat PREFECT_API_AUTH_STRING)"
keep PREFECT_SERVER_DATABASE_CONNECTION_URL "postgresql+asyncpg://prefect:$(cat prefect_password)@database:5432/prefect"
keep LOOKBOOK_REGISTRY_URL "postgresql://registry:$(cat registry_password)@database:5432/registry"
echo "To sign in to Prefect's UI: $(cat PREFECT_API_AUTH_STRING)"
