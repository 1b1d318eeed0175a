// The npm SDK, pointed at an address: `node use_npm_sdk.mjs SDK_FOLDER BASE_URL MODEL KEY CASE…`; prints one JSON object a case.

import { createRequire } from "node:module";
import path from "node:path";

const [folder, baseURL, model, apiKey, ...cases] = process.argv.slice(2);
const require = createRequire(path.join(path.resolve(folder), "package.json"));
const { Anthropic } = require("@anthropic-ai/sdk");

const client = new Anthropic({ baseURL, apiKey, maxRetries: 0 });
const TOOLS = [
  {
    name: "get_weather",
    description: "Tell the weather in a city.",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"], additionalProperties: false },
  },
];
const QUESTION = { model, max_tokens: 300, messages: [{ role: "user", content: "What is the weather in Paris?" }] };

// What a reader of the reply gets; ids differ from call to call, and so do a climb's model and usage.
function canonical(message) {
  const content = message.content.map(({ id, ...block }) => block);
  return { type: message.type, role: message.role, content, stop_reason: message.stop_reason, stop_sequence: message.stop_sequence };
}

async function create() {
  return { messages: [canonical(await client.messages.create(QUESTION))] };
}

// All three ways of reading a stream: its events, the deltas of the text, and the message at the end.
async function stream() {
  const events = [];
  for await (const event of await client.messages.create({ ...QUESTION, stream: true })) events.push(event);
  const text = events.filter((event) => event.delta?.type === "text_delta").map((event) => event.delta.text);
  const runner = client.messages.stream(QUESTION);
  const parts = [];
  runner.on("text", (part) => parts.push(part));
  const message = canonical(await runner.finalMessage());
  return {
    kinds: events.map((event) => event.type).filter((kind, at, all) => kind !== all[at - 1]),
    messages: [message],
    deltas_equal_the_text: text.join("") === message.content[0].text && parts.join("") === message.content[0].text,
  };
}

async function loop(reply) {
  const messages = [...QUESTION.messages];
  const got = [];
  for (let turn = 0; turn < 20; turn += 1) {
    const message = await reply({ ...QUESTION, messages, tools: TOOLS });
    got.push(canonical(message));
    const calls = message.content.filter((block) => block.type === "tool_use");
    if (!calls.length) return { messages: got };
    const results = calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: `14 degrees in ${call.input.city}` }));
    messages.push({ role: "assistant", content: message.content }, { role: "user", content: results });
  }
  throw new Error("the loop did not end in 20 turns");
}

async function failure() {
  try {
    await client.messages.create({ ...QUESTION, max_tokens: -1 });
  } catch (error) {
    return { status: error.status, type: error.error?.error?.type, name: error.constructor.name };
  }
  throw new Error("it was not refused");
}

const CASES = {
  create,
  stream,
  failure,
  tools: () => loop((body) => client.messages.create(body)),
  tools_stream: () => loop((body) => client.messages.stream(body).finalMessage()),
  count: async () => ({ input_tokens: (await client.messages.countTokens({ model, messages: QUESTION.messages })).input_tokens }),
};

const sorted = (_, value) =>
  value && typeof value === "object" && !Array.isArray(value) ? Object.fromEntries(Object.entries(value).sort()) : value;
for (const name of cases) console.log(JSON.stringify({ case: name, ...(await CASES[name]()) }, sorted));
