-- applied: the migrations that were applied, from the one after this version on; the primary key of sqlx's table
select version, description, checksum from _sqlx_migrations where version > $1 order by version
