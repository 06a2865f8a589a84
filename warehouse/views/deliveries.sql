CREATE OR REPLACE VIEW deliveries AS
SELECT
    d.delivery_id AS delivery_id,
    if(s.customer_id = toUUID('00000000-0000-0000-0000-000000000000'), d.subject_id, s.customer_id) AS customer_id,
    d.subject_id AS subject_id,
    d.trigger AS trigger,
    d.version AS version,
    d.action AS action,
    d.destination AS destination,
    d.change AS change,
    d.programme AS programme,
    d.from_state AS from_state,
    d.to_state AS to_state,
    d.change_at AS change_at,
    d.cause AS cause,
    d.arm AS arm,
    d.chain AS chain,
    d.began_at AS began_at,
    d.state AS state,
    d.reason AS reason,
    if(d.planned, d.planned_for, NULL) AS planned_for,
    if(d.state = 'retrying', d.next_at, NULL) AS next_at,
    d.attempts AS attempts,
    if(d.state = 'delivered', d.last_at, NULL) AS delivered_at,
    d.status AS status,
    d.latency_ms AS latency_ms,
    d.error AS error,
    d.place AS position
FROM
(
    SELECT
        f.delivery_id AS delivery_id,
        any(f.subject_id) AS subject_id,
        argMax(f.trigger, (f.trigger != '', f.position)) AS trigger,
        argMax(f.version, (f.trigger != '', f.position)) AS version,
        argMax(f.action, (f.trigger != '', f.position)) AS action,
        argMax(f.destination, (f.trigger != '', f.position)) AS destination,
        argMax(f.change, (f.trigger != '', f.position)) AS change,
        argMax(f.programme, (f.trigger != '', f.position)) AS programme,
        argMax(f.from_state, (f.trigger != '', f.position)) AS from_state,
        argMax(f.to_state, (f.trigger != '', f.position)) AS to_state,
        argMax(f.change_at, (f.trigger != '', f.position)) AS change_at,
        argMax(f.cause, (f.trigger != '', f.position)) AS cause,
        argMax(f.arm, (f.trigger != '', f.position)) AS arm,
        argMax(f.chain, (f.trigger != '', f.position)) AS chain,
        min(f.at) AS began_at,
        argMax(f.state, (f.round, f.position)) AS state,
        argMax(f.reason, (f.round, f.position)) AS reason,
        max(f.state = 'planned') AS planned,
        argMax(f.send_at, (f.state = 'planned', f.round, f.position)) AS planned_for,
        argMax(f.send_at, (f.round, f.position)) AS next_at,
        countIf(f.state = 'attempted') AS attempts,
        argMax(f.at, (f.round, f.position)) AS last_at,
        argMax(f.status, (f.round, f.position)) AS status,
        argMax(f.latency_ms, (f.round, f.position)) AS latency_ms,
        argMax(f.error, (f.round, f.position)) AS error,
        min(f.position) AS place
    FROM {database}.delivery_facts_{gen} AS f FINAL
    GROUP BY f.delivery_id
) AS d
LEFT JOIN (SELECT subject_id, customer_id FROM {database}.subjects_{gen} FINAL) AS s ON s.subject_id = d.subject_id
COMMENT '{gen}'
