-- expiry_horizon: up to where everything that expired has ended, as far as any node has said; primary key of jobs
select j.horizon as "horizon!" from jobs j where j.name = 'expiry'
