// @segment/analytics-node with its host and write key changed, and nothing else.
import { Analytics } from '@segment/analytics-node'

const [host, writeKey] = process.argv.slice(2)
const analytics = new Analytics({ writeKey, host })
const problems = []
analytics.on('error', (e) => problems.push(`${e.code}: ${JSON.stringify(e.reason)}`))
let delivered = 0
const sent = () => delivered++

const anonymousId = 'visitor-1'
const at = (day) => new Date(Date.UTC(2026, 0, day, 12))
analytics.page({ anonymousId, category: 'Shop', name: 'Home', properties: { url: 'https://shop.example/' }, timestamp: at(1) }, sent)
analytics.track({ anonymousId, event: 'Product Viewed', properties: { product_id: 'p-1', price: 19.5 }, timestamp: at(2) }, sent)
analytics.identify({ userId: 'node-1', anonymousId, traits: { email: 'jo@example.com', plan: 'basic' }, timestamp: at(3) }, sent)
analytics.group({ userId: 'node-1', groupId: 'g-1', traits: { name: 'Example Ltd' }, timestamp: at(4) }, sent)
analytics.screen({ userId: 'node-1', name: 'Cart', timestamp: at(5) }, sent)
analytics.track({
  userId: 'node-1', event: 'Order Completed', timestamp: at(6),
  properties: { order_id: 'o-1', total: 39.9, currency: 'EUR', products: [{ product_id: 'p-1', price: 19.95, quantity: 2 }] },
}, sent)
analytics.alias({ previousId: 'visitor-2', userId: 'node-1', timestamp: at(7) }, sent)
analytics.track({ anonymousId: 'visitor-2', event: 'Something Of Ours', timestamp: at(8) }, sent)
// More than one batch.
for (let i = 0; i < 40; i++) {
  analytics.track({ userId: `node-many-${i}`, event: 'Signed Up' }, sent)
}
await analytics.flush({ close: true })
console.log(JSON.stringify({ delivered, problems }))
