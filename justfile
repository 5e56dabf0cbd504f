# `just` lists the recipes. The checks themselves are described once, in .ci/run.

_default:
    @just --list

# everything that a change must pass
ci:
    .ci/run

# is the code formatted?
fmt:
    .ci/run fmt

# no warnings, tests included
clippy:
    .ci/run clippy

# no broken links in the documentation
docs:
    .ci/run docs

# all tests, on an embedded PostgreSQL or on DATABASE_URL
test:
    .ci/run test

# does sqlx-data.json say what a database says?
sqlx-data:
    .ci/run sqlx-data

# write it anew after a query or a migration has changed
sqlx-data-write:
    cargo xtask sqlx-data

# licences, sources, advisories
deny:
    .ci/run deny
