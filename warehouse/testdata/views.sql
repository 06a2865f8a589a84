CREATE OR REPLACE VIEW subjects AS
SELECT
    subject_id,
    subject,
    customer_id
FROM sojourn.subjects_g7 FINAL
WHERE customer_id != subject_id
COMMENT 'g7';

CREATE OR REPLACE VIEW customers AS
SELECT
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
FROM sojourn.customers_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW stage_transitions AS
SELECT
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
FROM sojourn.stage_transitions_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW identity_conflicts AS
SELECT
    event_id,
    subject_id,
    subject,
    other_id,
    other,
    occurred_at,
    status
FROM sojourn.identity_conflicts_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW accounts AS
SELECT
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
FROM sojourn.accounts_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW account_members AS
SELECT
    account_id,
    dictGetOrDefault('sojourn.moved_g7', 'customer_id', subject_no, subject_id) AS customer_id,
    min(since) AS since
FROM sojourn.account_members_g7 FINAL
GROUP BY account_id, customer_id
HAVING customer_id != toUUID('ffffffff-ffff-ffff-ffff-ffffffffffff')
COMMENT 'g7';

CREATE OR REPLACE VIEW loyalty_status AS
SELECT
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
FROM sojourn.loyalty_status_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW loyalty_ledger AS
SELECT
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
FROM sojourn.loyalty_ledger_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW tier_transitions AS
SELECT
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
FROM sojourn.tier_transitions_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW satisfaction AS
SELECT
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
FROM sojourn.satisfaction_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW satisfaction_transitions AS
SELECT
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
FROM sojourn.satisfaction_transitions_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW cases AS
SELECT
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
FROM sojourn.cases_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW surveys AS
SELECT
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
FROM sojourn.surveys_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW feedback AS
SELECT
    f.event_id AS event_id,
    if(dictGet('sojourn.moved_g7', 'customer_id', f.subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), f.subject_id, moved_to) AS customer_id,
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
FROM sojourn.feedback_g7 AS f FINAL
LEFT JOIN (SELECT * FROM sojourn.feedback_handling_g7 FINAL) AS h ON h.event_id = f.event_id
COMMENT 'g7';

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
    FROM sojourn.delivery_facts_g7 AS f FINAL
    GROUP BY f.delivery_id
) AS d
LEFT JOIN (SELECT subject_id, customer_id FROM sojourn.subjects_g7 FINAL) AS s ON s.subject_id = d.subject_id
COMMENT 'g7';

CREATE OR REPLACE VIEW segment_stays AS
SELECT
    segment,
    customer_id,
    seq,
    entered_at,
    entered_cause,
    left_at,
    left_cause,
    position,
    clock
FROM sojourn.segment_stays_g7 FINAL
WHERE removed = 0
COMMENT 'g7';

CREATE OR REPLACE VIEW segment_members AS
SELECT
    segment,
    customer_id,
    entered_at AS since,
    entered_cause AS cause
FROM sojourn.segment_stays
WHERE left_at IS NULL
COMMENT 'g7';

CREATE OR REPLACE VIEW segment_changes AS
SELECT
    segment,
    customer_id,
    seq,
    moved.1 AS change,
    moved.2 AS at,
    moved.3 AS cause
FROM sojourn.segment_stays
ARRAY JOIN if(left_at IS NULL, [('entered', entered_at, entered_cause)], [('entered', entered_at, entered_cause), ('left', assumeNotNull(left_at), left_cause)]) AS moved
COMMENT 'g7';

CREATE OR REPLACE VIEW segment_sizes AS
SELECT
    segment,
    day,
    entries,
    exits,
    toUInt64(sum(toInt64(entries) - toInt64(exits)) OVER (PARTITION BY segment ORDER BY day)) AS members
FROM
(
    SELECT segment, toDate(at) AS day, countIf(change = 'entered') AS entries, countIf(change = 'left') AS exits
    FROM sojourn.segment_changes
    GROUP BY segment, day
)
COMMENT 'g7';

CREATE OR REPLACE VIEW loyalty_programmes AS
SELECT
    programme,
    countIf(isNotNull(s.enrolled_at)) AS members,
    countIf(isNotNull(s.enrolled_at) AND (s.customer_id, s.programme) IN (
        SELECT customer_id, programme FROM sojourn.loyalty_ledger
        WHERE kind IN ('earned', 'redeemed') AND at > (SELECT max(clock) FROM sojourn.loyalty_status) - INTERVAL 365 DAY
    )) AS active_members,
    sum(s.available) + sum(s.pending) AS points,
    argMax(s.point_value, s.clock) AS point_value,
    toDecimal128(points, 0) * argMax(s.point_value, s.clock) AS liability,
    argMax(s.currency, s.clock) AS currency,
    sum(s.debt) AS debt,
    sum(s.earned) + sum(s.adjusted_in) AS given,
    sum(s.redeemed) AS redeemed,
    sum(s.expired) AS expired,
    if(given = 0, NULL, sum(s.redeemed) / given) AS redemption_rate,
    if(given = 0, NULL, sum(s.expired) / given) AS breakage
FROM sojourn.loyalty_status AS s
GROUP BY programme
COMMENT 'g7';

CREATE OR REPLACE VIEW loyalty_tiers AS
SELECT
    programme,
    tier,
    count() AS members,
    countIf((customer_id, programme) IN (
        SELECT customer_id, programme FROM sojourn.loyalty_ledger
        WHERE kind IN ('earned', 'redeemed') AND at > (SELECT max(clock) FROM sojourn.loyalty_status) - INTERVAL 365 DAY
    )) AS active_members
FROM sojourn.loyalty_status
WHERE isNotNull(enrolled_at)
GROUP BY programme, tier
COMMENT 'g7';

CREATE OR REPLACE VIEW satisfaction_monthly AS
SELECT
    toStartOfMonth(occurred_at) AS month,
    channel,
    countIf(kind = 'nps') AS nps_answers,
    if(nps_answers = 0, NULL, 100 * (countIf(kind = 'nps' AND good) - countIf(kind = 'nps' AND bad)) / nps_answers) AS nps,
    countIf(kind = 'csat') AS csat_answers,
    if(csat_answers = 0, NULL, 100 * countIf(kind = 'csat' AND good) / csat_answers) AS csat,
    countIf(kind = 'ces') AS ces_answers,
    if(ces_answers = 0, NULL, avgIf(ease, kind = 'ces')) AS ces,
    if(ces_answers = 0, NULL, 100 * countIf(kind = 'ces' AND good) / ces_answers) AS ces_easy
FROM sojourn.feedback
WHERE kind IN ('nps', 'csat', 'ces') AND isNotNull(score) AND flag = ''
GROUP BY month, channel
COMMENT 'g7';

CREATE OR REPLACE VIEW feedback_topics AS
SELECT
    toMonday(occurred_at) AS week,
    arrayJoin(if(empty(topics), [''], topics)) AS topic,
    count() AS comments,
    countIf(priority = 'high') / comments AS high_share
FROM sojourn.feedback
WHERE comment != '' AND status != ''
GROUP BY week, topic
COMMENT 'g7';

CREATE OR REPLACE VIEW touchpoints AS
SELECT
    event_id,
    if(dictGet('sojourn.moved_g7', 'customer_id', subject_no) AS moved_to = toUUID('00000000-0000-0000-0000-000000000000'), subject_id, moved_to) AS customer_id,
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
    bitXor(subject_no, dictGet('sojourn.moved_g7', 'no_change', subject_no)) AS customer_no
FROM sojourn.touchpoints_g7
COMMENT 'g7';

