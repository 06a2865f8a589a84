// @segment/analytics-node in a shop where a guest opens an account and a tablet
// stands in the living room. What is flushed is in the log before what follows.
import { Analytics } from '@segment/analytics-node'

const [host, writeKey] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host })
const problems = []
analytics.on('error', (e) => problems.push(`${e.code}: ${JSON.stringify(e.reason)}`))
let delivered = 0
const sent = () => delivered++

const daysAgo = (days) => new Date(Date.now() - 3_600_000 - days * 86_400_000)
const order = (who, id, days) => analytics.track({
  ...who, event: 'Order Completed', timestamp: daysAgo(days), properties: { order_id: id, total: 10, currency: 'EUR' },
}, sent)

// Ada checks out as a guest, and makes an account with the same address later.
analytics.identify({ anonymousId: 'guest-1', traits: { email: 'Ada@Example.com' }, timestamp: daysAgo(20) }, sent)
order({ anonymousId: 'guest-1' }, 'a1', 20)
await analytics.flush()
analytics.identify({ userId: 'ada', traits: { email: 'ada@example.com' }, timestamp: daysAgo(6) }, sent)
order({ userId: 'ada' }, 'a2', 5)
await analytics.flush()

// Ben and Cleo log in on one tablet.
analytics.page({ anonymousId: 'tablet', name: 'Home', timestamp: daysAgo(30) }, sent)
await analytics.flush()
analytics.identify({ userId: 'ben', anonymousId: 'tablet', timestamp: daysAgo(29) }, sent)
for (const day of [28, 27, 26, 25]) order({ userId: 'ben' }, `b${day}`, day)
await analytics.flush()
analytics.identify({ userId: 'cleo', anonymousId: 'tablet', timestamp: daysAgo(12) }, sent)
order({ userId: 'cleo' }, 'c1', 10)
await analytics.flush({ close: true })
console.log(JSON.stringify({ delivered, problems }))
