-- rewrap_data_key: a data key under another master key, unless somebody has done so already; primary key of data_keys
update data_keys k set master_id = $2, wrapped = $3
where k.id = $1 and k.master_id = $4
