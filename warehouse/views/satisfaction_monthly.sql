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
FROM {database}.feedback
WHERE kind IN ('nps', 'csat', 'ces') AND isNotNull(score) AND flag = ''
GROUP BY month, channel
COMMENT '{gen}'
