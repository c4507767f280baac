-- A ledger's tables as views, and the questions that are asked most, for DuckDB (tested with 2.0):
--
--     cd out/catalog && duckdb -init …/batch_jobs/ledger/views.sql
--
-- Elsewhere say where the ledger is (the --out of render_catalog) before this file is read:
--
--     SET VARIABLE ledger = 's3://songs/ledger';
--
-- The views show the state of one manifest, the newest when this file was read. Read it again to see a later one.
-- docs/analysts.md says what the figures mean.

SET TimeZone = 'UTC';
SET VARIABLE ledger = coalesce(getvariable('ledger'), '.');

-- The files, and the tables that they are -----------------------------------------------------------------------------

CREATE OR REPLACE TEMP TABLE ledger_manifest AS
SELECT *
FROM read_json(
    getvariable('ledger') || '/manifest.json',
    format = 'auto',
    maximum_object_size = 268435456,
    columns = {
        number: 'BIGINT',
        written_at: 'TIMESTAMPTZ',
        tables: 'MAP(
            VARCHAR, STRUCT(path VARCHAR, "rows" BIGINT, bytes BIGINT, job_id VARCHAR, "day" DATE, model VARCHAR)[]
        )'
    }
);

-- Every file that counts. `day` and `model` are null in the schema file that each table begins with.
CREATE OR REPLACE TEMP TABLE ledger_files AS
WITH entries AS (SELECT unnest(map_entries(tables)) AS entry FROM ledger_manifest),
     files AS (SELECT entry.key AS table_name, unnest(entry.value, recursive := true) FROM entries)
SELECT table_name, getvariable('ledger') || '/' || path AS file, path, "rows", bytes, job_id, "day", model FROM files;

-- Said here, because such files would be read as rows without day and model.
SET VARIABLE ledger_fault = (
    SELECT error(
        CASE WHEN contains(path, '..') THEN 'the manifest names a file outside the ledger: ' || path
             ELSE 'the ledger has files of an older release; run python -m batch_jobs.compact_ledger on it' END
    )
    FROM ledger_files WHERE contains(path, '..') OR contains(path, '/day=') LIMIT 1
);

SET VARIABLE ledger_tracks = (SELECT list(file) FROM ledger_files WHERE table_name = 'tracks');
SET VARIABLE ledger_failures = (SELECT list(file) FROM ledger_files WHERE table_name = 'failures');
SET VARIABLE ledger_attempts = (SELECT list(file) FROM ledger_files WHERE table_name = 'attempts');
SET VARIABLE ledger_nodes = (SELECT list(file) FROM ledger_files WHERE table_name = 'nodes');

CREATE OR REPLACE TEMP VIEW tracks AS
FROM read_parquet(getvariable('ledger_tracks'), hive_partitioning = false, union_by_name = true);
CREATE OR REPLACE TEMP VIEW failures AS
FROM read_parquet(getvariable('ledger_failures'), hive_partitioning = false, union_by_name = true);
CREATE OR REPLACE TEMP VIEW attempts AS
FROM read_parquet(getvariable('ledger_attempts'), hive_partitioning = false, union_by_name = true);
CREATE OR REPLACE TEMP VIEW nodes AS
FROM read_parquet(getvariable('ledger_nodes'), hive_partitioning = false, union_by_name = true);

-- Questions -----------------------------------------------------------------------------------------------------------
-- fsum is a sum that does not drift with the order of the rows. `total_usd` is null in rows of releases that knew no
-- shares: what such a track cost is its own render.

-- What tracks cost: one row for each value of each dimension. Of cache hits nothing is charged, so a cost per track is
-- per rendered track, and null where none was rendered.
CREATE OR REPLACE TEMP VIEW cost_by_dimension AS
WITH split AS (
    SELECT *, unnest([
        {dimension: 'model', value: model},
        {dimension: 'style', value: style},
        {dimension: 'market', value: market},
        {dimension: 'requested_by', value: requested_by},
        {dimension: 'day', value: CAST("day" AS VARCHAR)},
        {dimension: 'job_id', value: job_id}
    ], recursive := true)
    FROM tracks
)
SELECT dimension, value,
       count(*) AS tracks,
       count(*) FILTER (NOT cache_hit) AS rendered,
       fsum(coalesce(total_usd, charged_usd)) AS usd,
       fsum(coalesce(total_usd, charged_usd)) / nullif(count(*) FILTER (NOT cache_hit), 0) AS usd_per_track,
       fsum(coalesce(total_usd, charged_usd)) / nullif(fsum(duration_s / 60) FILTER (NOT cache_hit), 0)
           AS usd_per_minute,
       fsum(charged_usd) AS render_usd,
       fsum(waste_usd) AS waste_usd,
       fsum(idle_usd) AS idle_usd,
       coalesce(fsum(cost_usd) FILTER (cache_hit), 0) AS saved_usd
FROM split
GROUP BY ALL
ORDER BY dimension, usd DESC, value;

-- Attempts that gave no track, by how they ended and why.
CREATE OR REPLACE TEMP VIEW waste_by_cause AS
SELECT ended, reason, count(*) AS tries, fsum(device_seconds) AS device_seconds, fsum(cost_usd) AS usd
FROM attempts WHERE ended <> 'track' GROUP BY ALL ORDER BY usd DESC, ended, reason;

-- The bill of each job, and whether what its tracks carry and what none of them carries add up to it.
CREATE OR REPLACE TEMP VIEW reconciliation AS
WITH charged AS (SELECT job_id, fsum(total_usd) AS usd FROM tracks WHERE total_usd IS NOT NULL GROUP BY job_id),
     bill AS (SELECT job_id, fsum(cost_usd) AS usd, fsum(unallocated_usd) AS unallocated_usd FROM nodes GROUP BY job_id)
SELECT job_id, coalesce(charged.usd, 0) AS tracks_usd, bill.unallocated_usd, bill.usd AS machines_usd,
       100 * (coalesce(charged.usd, 0) + bill.unallocated_usd - bill.usd) AS difference_cents
FROM bill LEFT JOIN charged USING (job_id) ORDER BY job_id;

-- What spot machines saved, of those whose price on demand is known.
CREATE OR REPLACE TEMP VIEW spot_savings AS
WITH spot AS (SELECT *, on_demand_usd_per_node_hour / usd_per_node_hour AS dearer FROM nodes
              WHERE market = 'spot' AND on_demand_usd_per_node_hour IS NOT NULL),
     machine AS (SELECT job_id, run_id, node_id, any_value(dearer) AS dearer FROM spot GROUP BY ALL),
     lost AS (SELECT coalesce(fsum(cost_usd * dearer), 0) AS usd
              FROM attempts JOIN machine USING (job_id, run_id, node_id) WHERE ended IN ('preempted', 'stopped'))
SELECT fsum(cost_usd) AS paid_usd, fsum(cost_usd * dearer) AS on_demand_usd, any_value(lost.usd) AS lost_usd,
       fsum(cost_usd * dearer) - fsum(cost_usd) - any_value(lost.usd) AS net_saving_usd
FROM spot, lost;

-- Tracks that were not withdrawn, as far as python -m batch_jobs.mark_withdrawn has marked those that were. The empty
-- part is for ledgers whose files are all of releases that did not know the column.
CREATE OR REPLACE TEMP VIEW standing_tracks AS
FROM (FROM tracks UNION ALL BY NAME SELECT NULL::TIMESTAMPTZ AS withdrawn_at, NULL::VARCHAR AS withdrawn_reason WHERE false)
WHERE withdrawn_at IS NULL;

-- The others, by reason.
CREATE OR REPLACE TEMP VIEW withdrawn_by_reason AS
SELECT withdrawn_reason AS reason, count(DISTINCT track_id) AS tracks, fsum(coalesce(total_usd, charged_usd)) AS usd
FROM (FROM tracks UNION ALL BY NAME SELECT NULL::TIMESTAMPTZ AS withdrawn_at, NULL::VARCHAR AS withdrawn_reason WHERE false)
WHERE withdrawn_at IS NOT NULL GROUP BY ALL ORDER BY usd DESC, reason;

-- Rows that failed, as their catalog has them.
CREATE OR REPLACE TEMP VIEW failed_rows AS
SELECT job_id, line, row_id, title, reason, stage, transient, message FROM failures ORDER BY job_id, line;
