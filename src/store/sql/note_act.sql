-- note_act: notes an act of an operator that is more than one statement; an insert, without an index (see restante_audit)
select restante_audit($1, $2::text::jsonb, $3, $4, $5)
