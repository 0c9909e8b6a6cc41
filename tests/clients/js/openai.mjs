// The OpenAI Node SDK, one way of asking after another.
import OpenAI from "openai";
import { settings, tell } from "./lines.mjs";

const client = new OpenAI({ baseURL: settings.url + "/v1", apiKey: "any", maxRetries: 0, timeout: 30_000 });
const body = {
  model: "refrain-sim",
  messages: [{ role: "user", content: settings.question }],
  ...settings.fields,
};

async function streamed() {
  const stream = await client.chat.completions.create({ ...body, stream: true });
  const told = { text: "", usage: [], calls: "", finish: null };
  for await (const chunk of stream) {
    if (chunk.usage) told.usage.push(chunk.usage);
    for (const { delta, finish_reason: finish } of chunk.choices) {
      told.text += delta.content ?? "";
      for (const call of delta.tool_calls ?? []) told.calls += call.function.arguments;
      told.finish = finish ?? told.finish;
    }
  }
  return told;
}

const asking = {
  streamed,

  async whole() {
    const { data, response } = await client.chat.completions.create(body).withResponse();
    const [{ message, finish_reason: finish }] = data.choices;
    return {
      text: message.content,
      calls: message.tool_calls?.map((call) => call.function) ?? null,
      usage: data.usage,
      finish,
      status: response.headers.get("cache-status"),
    };
  },

  // The SDK's own accumulator checks every chunk that it folds.
  async helper() {
    const runner = client.chat.completions.stream(body);
    const completion = await runner.finalChatCompletion();
    return { text: completion.choices[0].message.content, usage: await runner.totalUsage() };
  },

  async together() {
    const told = await Promise.all(Array.from({ length: settings.callers }, streamed));
    return { texts: told.map(({ text }) => text) };
  },

  async left() {
    const stream = await client.chat.completions.create({ ...body, stream: true });
    for await (const chunk of stream) {
      if (chunk.choices[0]?.delta.content) break; // leaving the loop aborts the request
    }
    return { left: true };
  },

  async retried() {
    const patient = client.withOptions({ maxRetries: 8 });
    const { choices } = await patient.chat.completions.create(body);
    return { text: choices[0].message.content };
  },

  async models() {
    const page = await client.models.list();
    return { models: page.data.map(({ id }) => id) };
  },
};

try {
  tell(await asking[settings.way]());
} catch (error) {
  const { name, message } = error.constructor;
  tell({ error: name, status: error.status ?? null, code: error.code ?? null, request: error.requestID ?? null, message });
}
