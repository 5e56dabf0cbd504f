-- schema_of: the schema that unqualified names of this connection mean, and what would give the role this one instead; no index
select quote_ident(current_schema()) as "schema?",
       format('alter role %I in database %I set search_path = %s', session_user, current_database(), $1::text) as "mends!"
