-- settle: acks, marks and device cursors of a batch in one transaction; primary keys throughout (see restante_settle)
select moved as "moved?", settled_at as "settled_at!"
from restante_settle($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
