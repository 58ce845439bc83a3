// Tests a broker on a port of this machine with JavaScript's mqtt: PORT [TRANSPORT DIRECTORY]. The transport is one of
// tcp, tls, certificate, ws and wss; the directory has the certificates.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'

const mqtt = createRequire(new URL('.tools/', import.meta.url))('mqtt')

const [PORT, TRANSPORT = 'tcp', DIRECTORY] = process.argv.slice(2)
const SCHEMES = { tcp: 'mqtt', tls: 'mqtts', certificate: 'mqtts', ws: 'ws', wss: 'wss' }
const URL_OF_BROKER = `${SCHEMES[TRANSPORT]}://localhost:${PORT}/mqtt`
const SECURITY = TRANSPORT === 'tcp' || TRANSPORT === 'ws' ? {} : { ca: readFileSync(`${DIRECTORY}/ca.crt`) }
if (TRANSPORT === 'certificate') {
  SECURITY.cert = readFileSync(`${DIRECTORY}/client.crt`)
  SECURITY.key = readFileSync(`${DIRECTORY}/client.key`)
}
const VERSIONS = { '3.1': 3, '3.1.1': 4, '5.0': 5 }
// Milliseconds; what takes longer has failed.
const PATIENCE = 30_000

class Client {
  #messages = []
  #waiting = []

  static async connect(version, name, { isPersistent = false, will } = {}) {
    const client = new Client()
    const is5 = version === '5.0'
    const options = {
      // At most the 23 characters of 3.1.
      clientId: `js-${TRANSPORT.slice(0, 4)}-${version}-${name}`,
      protocolVersion: VERSIONS[version],
      protocolId: version === '3.1' ? 'MQIsdp' : 'MQTT',
      clean: !isPersistent,
      reconnectPeriod: 0,
      resubscribe: false,
      will,
      ...SECURITY,
      properties: is5 ? { sessionExpiryInterval: isPersistent ? 3600 : 0 } : undefined,
    }
    client.mqtt = mqtt.connect(URL_OF_BROKER, options)
    client.mqtt.on('message', (_topic, _payload, packet) => client.#take(packet))
    const connack = await new Promise((resolve, reject) => {
      client.mqtt.once('connect', resolve)
      client.mqtt.once('error', reject)
      client.mqtt.once('close', () => reject(new Error('closed instead of CONNACK')))
    })
    client.sessionPresent = connack.sessionPresent
    client.mqtt.removeAllListeners('error')
    client.mqtt.on('error', () => {})
    return client
  }

  #take(packet) {
    const waiting = this.#waiting.shift()
    if (waiting) waiting(packet)
    else this.#messages.push(packet)
  }

  async subscribe(topic, qos) {
    const granted = await this.mqtt.subscribeAsync(topic, { qos })
    assert.deepEqual(granted.map((one) => one.qos), [qos], 'what SUBACK grants')
  }

  publish(topic, payload, qos, retain = false) {
    return this.mqtt.publishAsync(topic, payload, { qos, retain })
  }

  receive() {
    const packet = this.#messages.shift()
    if (packet) return Promise.resolve(packet)
    return new Promise((resolve) => this.#waiting.push(resolve))
  }

  // The payload and RETAIN flag of the messages up to the first one of this topic, which is left out.
  async receiveUntil(topic) {
    const messages = []
    for (;;) {
      const packet = await this.receive()
      if (packet.topic === topic) return messages
      messages.push([packet.payload.toString(), packet.retain])
    }
  }

  breakOff() {
    this.mqtt.stream.destroy()
  }

  end() {
    return this.mqtt.endAsync()
  }
}

const numbers = (count) => Array.from({ length: count }, (_, number) => number)

function qos(level) {
  return async (version, topic) => {
    const subscriber = await Client.connect(version, 'sub')
    const publisher = await Client.connect(version, 'pub')
    await subscriber.subscribe(`${topic}/+`, level)
    for (const number of numbers(10)) await publisher.publish(`${topic}/a`, `${number}`, level)
    for (const number of numbers(10)) {
      const packet = await subscriber.receive()
      const seen = [packet.topic, packet.payload.toString(), packet.qos, packet.retain]
      assert.deepEqual(seen, [`${topic}/a`, `${number}`, level, false])
    }
    await Promise.all([subscriber.end(), publisher.end()])
  }
}

async function retained(version, topic) {
  const publisher = await Client.connect(version, 'pub')
  for (const [payload, expected] of [['on', [['on', true]]], ['off', [['off', true]]], ['', []]]) {
    await publisher.publish(topic, payload, 1, true)
    const late = await Client.connect(version, 'late')
    await late.subscribe(topic, 1)
    await late.subscribe(`${topic}/end`, 1)
    await publisher.publish(`${topic}/end`, '', 1)
    assert.deepEqual(await late.receiveUntil(`${topic}/end`), expected)
    await late.end()
  }
  await publisher.end()
}

async function will(version, topic) {
  const watcher = await Client.connect(version, 'watch')
  await watcher.subscribe(topic, 2)
  const options = { will: { topic, payload: Buffer.from('gone'), qos: 2, retain: false } }
  const polite = await Client.connect(version, 'device', options)
  await polite.end()
  await watcher.publish(topic, 'left in good order', 2)
  const rude = await Client.connect(version, 'device', options)
  rude.breakOff()
  const seen = [await watcher.receive(), await watcher.receive()].map((packet) => packet.payload.toString())
  assert.deepEqual(seen, ['left in good order', 'gone'])
  await watcher.end()
}

async function persistentSession(version, topic) {
  let sleeper = await Client.connect(version, 'sleeper', { isPersistent: true })
  assert.equal(sleeper.sessionPresent, false)
  await sleeper.subscribe(topic, 2)
  await sleeper.end()
  const publisher = await Client.connect(version, 'pub')
  for (const number of numbers(20)) await publisher.publish(topic, `${number}`, number < 10 ? 1 : 2)
  await publisher.end()
  sleeper = await Client.connect(version, 'sleeper', { isPersistent: true })
  assert.ok(sleeper.sessionPresent || version === '3.1', 'the session is gone')
  for (const number of numbers(20)) {
    const packet = await sleeper.receive()
    assert.deepEqual([packet.payload.toString(), packet.qos], [`${number}`, number < 10 ? 1 : 2])
  }
  await sleeper.end()
}

async function sharedSubscription(version, topic) {
  const count = 60
  const members = [await Client.connect(version, 'one'), await Client.connect(version, 'two')]
  const publisher = await Client.connect(version, 'pub')
  for (const member of members) {
    await member.subscribe(`$share/group/${topic}`, 1)
    await member.subscribe(`${topic}/end`, 1)
  }
  for (const number of numbers(count)) await publisher.publish(topic, `${number}`, 1)
  await publisher.publish(`${topic}/end`, '', 1)
  const parts = []
  for (const member of members) parts.push(await member.receiveUntil(`${topic}/end`))
  const sizes = parts.map((part) => part.length)
  assert.ok(sizes.every((size) => size > 0 && size < count), `the members got ${sizes}`)
  const all = parts.flat().map(([payload]) => Number(payload)).sort((one, other) => one - other)
  assert.deepEqual(all, numbers(count))
  await Promise.all([...members, publisher].map((client) => client.end()))
}

async function largePayload(version, topic) {
  const payload = Buffer.alloc(1024 * 1024, Buffer.from(numbers(256)))
  const subscriber = await Client.connect(version, 'sub')
  const publisher = await Client.connect(version, 'pub')
  await subscriber.subscribe(topic, 2)
  for (const level of [0, 1, 2]) {
    await publisher.publish(topic, payload, level)
    const packet = await subscriber.receive()
    assert.ok(packet.payload.equals(payload), `QoS ${level}: ${packet.payload.length} bytes, or not the same`)
  }
  await Promise.all([subscriber.end(), publisher.end()])
}

const CASES = [
  ['QoS 0', qos(0)],
  ['QoS 1', qos(1)],
  ['QoS 2', qos(2)],
  ['retained', retained],
  ['will', will],
  ['persistent session', persistentSession],
  ['shared subscription', sharedSubscription],
  ['large payload', largePayload],
]

function withPatience(promise) {
  let timer
  const timeout = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error('it did not come to an end')), PATIENCE)
  })
  return Promise.race([promise, timeout]).finally(() => clearTimeout(timer))
}

for (const version of Object.keys(VERSIONS)) {
  for (const [number, [name, run]] of CASES.entries()) {
    try {
      await withPatience(run(version, `mqttjs/${TRANSPORT}/${version}/${number}`))
      console.log(`ok mqtt.js ${TRANSPORT} ${version} ${name}`)
    } catch (error) {
      console.log(`FAILED mqtt.js ${TRANSPORT} ${version} ${name}: ${error.message.replaceAll(/\s+/g, ' ')}`)
    }
  }
}
// Clients of cases that failed may still be connected.
process.exit(0)
