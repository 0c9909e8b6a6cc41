module refrain/bench

go 1.19
