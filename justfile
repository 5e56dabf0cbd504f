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

# the tests with the unchanged client of Socket.IO; needs Node.js and npm
socketio:
    SOCKETIO_TESTS=must cargo test --test socketio

# chat logs through unchanged clients of Socket.IO, while the service is killed six times; needs Node.js, npm, and a release build
socketio-replay +logs:
    cd tests/socketio && npm ci --no-audit --no-fund
    cd clients/typescript && npm ci --no-audit --no-fund && npm run build
    node tests/socketio/replay.mjs {{logs}}

# the examples for proxies with two nodes behind them; needs Node.js, npm, nginx, caddy, and a release build
proxies:
    cd tests/socketio && npm ci --no-audit --no-fund
    cd clients/typescript && npm ci --no-audit --no-fund && npm run build
    node tests/socketio/proxies.mjs nginx caddy

# the tests with PgBouncer before the database, where 1.21 or newer is installed or can be from the distribution
pooler:
    .ci/run pooler

# the tests with NATS between the nodes
nats:
    .ci/run nats

# does sqlx-data.json say what a database says?
sqlx-data:
    .ci/run sqlx-data

# write it anew after a query or a migration has changed
sqlx-data-write:
    cargo xtask sqlx-data

# does schema.sql say what the migrations make?
schema:
    .ci/run schema

# are docs/openapi.json, docs/asyncapi.json and the TypeScript types what the types of the protocol say?
descriptions:
    .ci/run descriptions

# write them anew after a type of the protocol has changed
descriptions-write:
    cargo xtask descriptions

# ask a running service everything that docs/openapi.json allows, and hold its answers against it; needs schemathesis (PyPI: schemathesis 4)
schemathesis url token *options:
    schemathesis --config-file tests/schemathesis.toml run {{url}}/openapi.json --header 'Authorization: Bearer {{token}}' {{options}}

# the TypeScript client: build, tests, size; needs Node
sdk:
    .ci/run sdk

# every example through one scenario, while the service is killed: which facts hold for which; needs Python 3.11 and Node
examples:
    .ci/run examples

# licences, sources, advisories
deny:
    .ci/run deny

# give one way in (frame, token, jwks, forwarded, connect, service) hostile bytes for so many seconds; needs cargo-fuzz and a nightly compiler
fuzz target seconds="300":
    mkdir -p fuzz/found/{{target}}
    cargo +nightly fuzz run --fuzz-dir fuzz -s none {{target}} fuzz/found/{{target}} fuzz/corpus/{{target}} -- -max_total_time={{seconds}} -dict=fuzz/dictionaries/{{target}}.dict

# the Autobahn suite (RFC 6455) against the listener and the limits of sockets; needs wstest (PyPI: autobahntestsuite)
autobahn:
    tests/autobahn/run
