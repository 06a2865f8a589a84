-- touchpoints
SELECT 0 AS side, key FROM (SELECT toString(event_id) AS key, * FROM (SELECT
    event_id,
    if(dictGet('sojourn.moved_g1', 'customer_id', subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), subject_id, moved_to) AS customer_id,
    subject,
    user_id,
    anonymous_id,
    source,
    type,
    name,
    meaning,
    channel,
    occurred_at,
    received_at,
    recorded_at,
    position,
    amount,
    currency,
    order_id,
    if(flags = '', [], splitByChar(',', flags)) AS flags,
    properties,
    context,
    bitXor(subject_no, dictGet('sojourn.moved_g1', 'no_change', subject_no)) AS customer_no
FROM sojourn.touchpoints_g1)) UNION ALL SELECT 1 AS side, key FROM (SELECT toString(event_id) AS key, * FROM (SELECT
    event_id,
    if(dictGet('sojourn.moved_g2', 'customer_id', subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), subject_id, moved_to) AS customer_id,
    subject,
    user_id,
    anonymous_id,
    source,
    type,
    name,
    meaning,
    channel,
    occurred_at,
    received_at,
    recorded_at,
    position,
    amount,
    currency,
    order_id,
    if(flags = '', [], splitByChar(',', flags)) AS flags,
    properties,
    context,
    bitXor(subject_no, dictGet('sojourn.moved_g2', 'no_change', subject_no)) AS customer_no
FROM sojourn.touchpoints_g2));

-- customers
SELECT 0 AS side, key FROM (SELECT toString(customer_id) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    user_ids,
    stage,
    stage_since,
    first_seen,
    last_seen,
    purchases,
    refunds,
    revenue,
    traits,
    outlook,
    position,
    clock
FROM sojourn.customers_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT toString(customer_id) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    user_ids,
    stage,
    stage_since,
    first_seen,
    last_seen,
    purchases,
    refunds,
    revenue,
    traits,
    outlook,
    position,
    clock
FROM sojourn.customers_g2 FINAL
WHERE removed = 0));

-- stage_transitions
SELECT 0 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    from_stage,
    to_stage,
    at,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM sojourn.stage_transitions_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    from_stage,
    to_stage,
    at,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM sojourn.stage_transitions_g2 FINAL
WHERE removed = 0));

-- subjects
SELECT 0 AS side, key FROM (SELECT toString(subject_id) AS key, * FROM (SELECT
    subject_id,
    subject,
    customer_id
FROM sojourn.subjects_g1 FINAL
WHERE customer_id != subject_id)) UNION ALL SELECT 1 AS side, key FROM (SELECT toString(subject_id) AS key, * FROM (SELECT
    subject_id,
    subject,
    customer_id
FROM sojourn.subjects_g2 FINAL
WHERE customer_id != subject_id));

-- identity_conflicts
SELECT 0 AS side, key FROM (SELECT concat(toString(event_id), ' ', toString(other_id)) AS key, * FROM (SELECT
    event_id,
    subject_id,
    subject,
    other_id,
    other,
    occurred_at,
    status
FROM sojourn.identity_conflicts_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(event_id), ' ', toString(other_id)) AS key, * FROM (SELECT
    event_id,
    subject_id,
    subject,
    other_id,
    other,
    occurred_at,
    status
FROM sojourn.identity_conflicts_g2 FINAL
WHERE removed = 0));

-- accounts
SELECT 0 AS side, key FROM (SELECT toString(account_id) AS key, * EXCEPT (position, clock) FROM (SELECT
    account_id,
    group_id,
    stage,
    stage_since,
    first_seen,
    last_seen,
    purchases,
    refunds,
    revenue,
    traits,
    outlook,
    position,
    clock
FROM sojourn.accounts_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT toString(account_id) AS key, * EXCEPT (position, clock) FROM (SELECT
    account_id,
    group_id,
    stage,
    stage_since,
    first_seen,
    last_seen,
    purchases,
    refunds,
    revenue,
    traits,
    outlook,
    position,
    clock
FROM sojourn.accounts_g2 FINAL
WHERE removed = 0));

-- account_members
SELECT 0 AS side, key FROM (SELECT concat(toString(account_id), ' ', toString(customer_id)) AS key, * FROM (SELECT
    account_id,
    dictGetOrDefault('sojourn.moved_g1', 'customer_id', subject_no, subject_id) AS customer_id,
    min(since) AS since
FROM sojourn.account_members_g1 FINAL
GROUP BY account_id, customer_id
HAVING customer_id != toUUID('ffffffff-ffff-ffff-ffff-ffffffffffff'))) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(account_id), ' ', toString(customer_id)) AS key, * FROM (SELECT
    account_id,
    dictGetOrDefault('sojourn.moved_g2', 'customer_id', subject_no, subject_id) AS customer_id,
    min(since) AS since
FROM sojourn.account_members_g2 FINAL
GROUP BY account_id, customer_id
HAVING customer_id != toUUID('ffffffff-ffff-ffff-ffff-ffffffffffff')));

