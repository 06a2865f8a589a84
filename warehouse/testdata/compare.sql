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

-- loyalty_status
SELECT 0 AS side, key FROM (SELECT concat(toString(customer_id), ' ', programme) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    programme,
    enrolled_at,
    tier,
    tier_since,
    tier_until,
    tier_by,
    tier_total,
    next_tier,
    tier_missing,
    available,
    pending,
    debt,
    earned,
    adjusted_in,
    transferred_in,
    redeemed,
    expired,
    reversed,
    adjusted_out,
    transferred_out,
    expiring_at,
    expiring,
    point_value,
    currency,
    position,
    clock
FROM sojourn.loyalty_status_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(customer_id), ' ', programme) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    programme,
    enrolled_at,
    tier,
    tier_since,
    tier_until,
    tier_by,
    tier_total,
    next_tier,
    tier_missing,
    available,
    pending,
    debt,
    earned,
    adjusted_in,
    transferred_in,
    redeemed,
    expired,
    reversed,
    adjusted_out,
    transferred_out,
    expiring_at,
    expiring,
    point_value,
    currency,
    position,
    clock
FROM sojourn.loyalty_status_g2 FINAL
WHERE removed = 0));

-- loyalty_ledger
SELECT 0 AS side, key FROM (SELECT concat(toString(customer_id), ' ', programme, ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    programme,
    seq,
    at,
    kind,
    points,
    available,
    pending,
    debt,
    balance_available,
    balance_pending,
    balance_debt,
    lot,
    expires_at,
    order_id,
    value,
    currency,
    cause,
    note,
    position,
    clock
FROM sojourn.loyalty_ledger_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(customer_id), ' ', programme, ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    programme,
    seq,
    at,
    kind,
    points,
    available,
    pending,
    debt,
    balance_available,
    balance_pending,
    balance_debt,
    lot,
    expires_at,
    order_id,
    value,
    currency,
    cause,
    note,
    position,
    clock
FROM sojourn.loyalty_ledger_g2 FINAL
WHERE removed = 0));

-- tier_transitions
SELECT 0 AS side, key FROM (SELECT concat(toString(customer_id), ' ', programme, ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    programme,
    seq,
    from_tier,
    to_tier,
    at,
    until,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM sojourn.tier_transitions_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(customer_id), ' ', programme, ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    programme,
    seq,
    from_tier,
    to_tier,
    at,
    until,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM sojourn.tier_transitions_g2 FINAL
WHERE removed = 0));

-- satisfaction
SELECT 0 AS side, key FROM (SELECT toString(customer_id) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    status,
    since,
    satisfaction_index,
    uncapped_index,
    unknown_from,
    signals,
    nps_answers,
    nps_score,
    nps_at,
    nps_change,
    csat_answers,
    csat_score,
    csat_at,
    csat_change,
    ces_answers,
    ces_score,
    ces_at,
    ces_change,
    review_answers,
    review_score,
    review_at,
    review_change,
    flagged,
    open_complaints,
    open_tickets,
    position,
    clock
FROM sojourn.satisfaction_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT toString(customer_id) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    status,
    since,
    satisfaction_index,
    uncapped_index,
    unknown_from,
    signals,
    nps_answers,
    nps_score,
    nps_at,
    nps_change,
    csat_answers,
    csat_score,
    csat_at,
    csat_change,
    ces_answers,
    ces_score,
    ces_at,
    ces_change,
    review_answers,
    review_score,
    review_at,
    review_change,
    flagged,
    open_complaints,
    open_tickets,
    position,
    clock
FROM sojourn.satisfaction_g2 FINAL
WHERE removed = 0));

-- satisfaction_transitions
SELECT 0 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    from_status,
    to_status,
    at,
    satisfaction_index,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM sojourn.satisfaction_transitions_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    from_status,
    to_status,
    at,
    satisfaction_index,
    reason,
    cause,
    policy_version,
    position,
    clock
FROM sojourn.satisfaction_transitions_g2 FINAL
WHERE removed = 0));

-- cases
SELECT 0 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    kind,
    case_id,
    opened_at,
    event_id,
    open,
    escalated,
    reopened,
    priority,
    response_at,
    response_took,
    response_target,
    response_due,
    response_verdict,
    resolution_at,
    resolution_took,
    resolution_target,
    resolution_due,
    resolution_verdict,
    position,
    clock
FROM sojourn.cases_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    kind,
    case_id,
    opened_at,
    event_id,
    open,
    escalated,
    reopened,
    priority,
    response_at,
    response_took,
    response_target,
    response_due,
    response_verdict,
    resolution_at,
    resolution_took,
    resolution_target,
    resolution_due,
    resolution_verdict,
    position,
    clock
FROM sojourn.cases_g2 FINAL
WHERE removed = 0));

-- surveys
SELECT 0 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    event_id,
    sent_at,
    kind,
    survey,
    campaign,
    answer_id,
    answered_at,
    position,
    clock
FROM sojourn.surveys_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    customer_id,
    seq,
    event_id,
    sent_at,
    kind,
    survey,
    campaign,
    answer_id,
    answered_at,
    position,
    clock
FROM sojourn.surveys_g2 FINAL
WHERE removed = 0));

-- feedback
SELECT 0 AS side, key FROM (SELECT toString(event_id) AS key, * FROM (SELECT
    f.event_id AS event_id,
    if(dictGet('sojourn.moved_g1', 'customer_id', f.subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), f.subject_id, moved_to) AS customer_id,
    f.subject AS subject,
    f.occurred_at AS occurred_at,
    f.position AS position,
    f.act AS act,
    f.kind AS kind,
    f.channel AS channel,
    f.source AS source,
    f.score AS score,
    f.scale_low AS scale_low,
    f.scale_high AS scale_high,
    f.flag AS flag,
    f.points AS points,
    f.good AS good,
    f.bad AS bad,
    f.ease AS ease,
    f.question AS question,
    f.comment AS comment,
    f.survey AS survey,
    f.campaign AS campaign,
    f.case_id AS case_id,
    f.product AS product,
    multiIf(ifNull(h.revision, 0) > 0, ifNull(h.status, ''), f.act IN ('complaint_opened', 'ticket_opened') OR f.comment != '' AND (f.kind != '' OR f.act IN ('complaint_updated', 'ticket_reopened')), 'open', '') AS status,
    ifNull(h.assignee, '') AS assignee,
    ifNull(h.sorted, false) AS sorted,
    if(ifNull(h.sorted, false), h.topics, f.topics) AS topics,
    if(ifNull(h.sorted, false), ifNull(h.need, ''), f.need) AS need,
    if(ifNull(h.sorted, false), ifNull(h.priority, ''), f.priority) AS priority,
    ifNull(h.answer, '') AS answer,
    ifNull(h.author, '') AS handled_by,
    if(ifNull(h.revision, 0) > 0, h.at, NULL) AS handled_at
FROM sojourn.feedback_g1 AS f FINAL
LEFT JOIN (SELECT * FROM sojourn.feedback_handling_g1 FINAL) AS h ON h.event_id = f.event_id)) UNION ALL SELECT 1 AS side, key FROM (SELECT toString(event_id) AS key, * FROM (SELECT
    f.event_id AS event_id,
    if(dictGet('sojourn.moved_g2', 'customer_id', f.subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), f.subject_id, moved_to) AS customer_id,
    f.subject AS subject,
    f.occurred_at AS occurred_at,
    f.position AS position,
    f.act AS act,
    f.kind AS kind,
    f.channel AS channel,
    f.source AS source,
    f.score AS score,
    f.scale_low AS scale_low,
    f.scale_high AS scale_high,
    f.flag AS flag,
    f.points AS points,
    f.good AS good,
    f.bad AS bad,
    f.ease AS ease,
    f.question AS question,
    f.comment AS comment,
    f.survey AS survey,
    f.campaign AS campaign,
    f.case_id AS case_id,
    f.product AS product,
    multiIf(ifNull(h.revision, 0) > 0, ifNull(h.status, ''), f.act IN ('complaint_opened', 'ticket_opened') OR f.comment != '' AND (f.kind != '' OR f.act IN ('complaint_updated', 'ticket_reopened')), 'open', '') AS status,
    ifNull(h.assignee, '') AS assignee,
    ifNull(h.sorted, false) AS sorted,
    if(ifNull(h.sorted, false), h.topics, f.topics) AS topics,
    if(ifNull(h.sorted, false), ifNull(h.need, ''), f.need) AS need,
    if(ifNull(h.sorted, false), ifNull(h.priority, ''), f.priority) AS priority,
    ifNull(h.answer, '') AS answer,
    ifNull(h.author, '') AS handled_by,
    if(ifNull(h.revision, 0) > 0, h.at, NULL) AS handled_at
FROM sojourn.feedback_g2 AS f FINAL
LEFT JOIN (SELECT * FROM sojourn.feedback_handling_g2 FINAL) AS h ON h.event_id = f.event_id));

-- segment_stays
SELECT 0 AS side, key FROM (SELECT concat(segment, ' ', toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    segment,
    customer_id,
    seq,
    entered_at,
    entered_cause,
    left_at,
    left_cause,
    position,
    clock
FROM sojourn.segment_stays_g1 FINAL
WHERE removed = 0)) UNION ALL SELECT 1 AS side, key FROM (SELECT concat(segment, ' ', toString(customer_id), ' ', leftPad(toString(seq), 10, '0')) AS key, * EXCEPT (position, clock) FROM (SELECT
    segment,
    customer_id,
    seq,
    entered_at,
    entered_cause,
    left_at,
    left_cause,
    position,
    clock
FROM sojourn.segment_stays_g2 FINAL
WHERE removed = 0));

-- deliveries
SELECT 0 AS side, key FROM (SELECT toString(delivery_id) AS key, * FROM (SELECT
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
    FROM sojourn.delivery_facts_g1 AS f FINAL
    GROUP BY f.delivery_id
) AS d
LEFT JOIN (SELECT subject_id, customer_id FROM sojourn.subjects_g1 FINAL) AS s ON s.subject_id = d.subject_id)) UNION ALL SELECT 1 AS side, key FROM (SELECT toString(delivery_id) AS key, * FROM (SELECT
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
    FROM sojourn.delivery_facts_g2 AS f FINAL
    GROUP BY f.delivery_id
) AS d
LEFT JOIN (SELECT subject_id, customer_id FROM sojourn.subjects_g2 FINAL) AS s ON s.subject_id = d.subject_id));

