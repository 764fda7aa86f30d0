// An example: print what happens to licences, each message once. It needs only `npm install amqplib`.
//
//   node consumer.mjs amqp://guest:guest@localhost:5672/ example.licences 'license.#' 'device.*'

import amqp from 'amqplib';

const [url = 'amqp://guest:guest@localhost:5672/', queue = 'example.licences', ...patterns] = process.argv.slice(2);
const EXCHANGE = 'licenses.events';
const PREFETCH = 100;

// Kept in memory, so that it holds until the program ends: a real one stores the ids with what follows from them.
const seen = new Set();

const connection = await amqp.connect(url);
connection.on('error', (error) => console.error(`connection lost: ${error.message}`));
const channel = await connection.createChannel();
await channel.assertQueue(queue, { durable: true, arguments: { 'x-queue-type': 'quorum' } });
for (const pattern of patterns.length ? patterns : ['#']) await channel.bindQueue(queue, EXCHANGE, pattern);
await channel.prefetch(PREFETCH);

const { consumerTag } = await channel.consume(queue, (message) => {
  if (message === null) return stop(); // the queue was deleted
  try {
    const event = JSON.parse(message.content);
    if (event?.specversion !== '1.0') throw new Error('this is no CloudEvent');
    if (!seen.has(event.id)) console.log(event.sequence, event.type, event.subject ?? '-', JSON.stringify(event.data));
    seen.add(event.id);
    channel.ack(message);
  } catch (wrong) {
    console.error(`rejected: ${wrong.message}`);
    channel.nack(message, false, false); // not requeued, or it would come again for ever
  }
});
console.error(`reading ${queue}; Ctrl-C stops`);

async function stop() {
  await channel.cancel(consumerTag);
  await channel.close();
  await connection.close();
}
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, stop);
