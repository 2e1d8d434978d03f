-- A licence without an outcome keeps its subject to its run, whatever state the run waits in: few rows, asked by every claim.
CREATE INDEX effect_open ON effect (run_id) WHERE state = 'intent';
