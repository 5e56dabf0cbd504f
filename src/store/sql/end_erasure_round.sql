-- end_erasure_round: ends a round of an erasure, with what is left of the user beside its id; primary keys (see restante_end_erasure_round)
select restante_end_erasure_round($1) as "is_done!"
