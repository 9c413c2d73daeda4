// Creates an export and follows it to its end, with the types that openapi-typescript makes of the document.
import createClient from "openapi-fetch";
import type { components, paths } from "./api.js";

declare const process: { env: Record<string, string> };

const client = createClient<paths>({
  baseUrl: process.env.ADDRESS,
  headers: { Authorization: `Bearer ${process.env.TOKEN}` },
});

// Every key that may be left out is left out.
const wanted: components["schemas"]["NewTaskBody"] = {
  chain: 1764,
  desc: "From TypeScript",
  target: { action: "export", export_index: "wallet-ledger", export_format: "csv" },
  trigger: {
    once: "2026-05-26T12:00:00Z",
    segment: {
      entity: "people",
      index: "wallet-ledger",
      join: "all",
      chain_id: 1764,
      rules: [{ field_name: "amount", field_type: "number", operator: "is_greater_than", value: 10 }],
    },
  },
};
const created = await client.POST("/tasks", { body: wanted });
if (created.error) throw new Error(created.error.detail);

let task: components["schemas"]["Task"] = created.data;
while (task.state.code === "READY" || task.state.code === "INPROGRESS") {
  const polled = await client.GET("/tasks/{id}", {
    params: { path: { id: task.id }, query: { wait: 10 }, header: { Prefer: "wait=10" } },
  });
  if (polled.error) throw new Error(polled.error.detail);
  task = polled.data;
}
const runs = await client.GET("/tasks/{id}/runs", { params: { path: { id: task.id } } });
if (runs.error) throw new Error(runs.error.detail);

const refused = await client.POST("/tasks", { body: { ...wanted, desc: 5 as unknown as string } });
console.log(JSON.stringify({
  state: task.state.code,
  rows: runs.data[0].rows,
  index: "export_index" in task.target ? task.target.export_index : "",
  refused: refused.error?.errors?.[0].detail,
}));
