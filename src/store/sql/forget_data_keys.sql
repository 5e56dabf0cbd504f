-- forget_data_keys: removes data keys that no row names; primary key of data_keys
delete from data_keys k where k.id = any($1)
