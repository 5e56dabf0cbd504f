-- keep_expiry_horizon: everything that expired up to here has ended; primary key of jobs
update jobs set horizon = $1 where name = 'expiry' and horizon < $1
