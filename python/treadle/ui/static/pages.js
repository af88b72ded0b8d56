// Workflows, processes, and runs that wait for an answer.
import { html, useEffect, useState } from "./dom.js";
import { get, isPaused, may, now } from "./api.js";
import { open } from "./dialog.js";
import { ago, className, count, lasts, moment, plural, short, visible } from "./format.js";
import { SendForm } from "./forms.js";
import { Graph, nodesOf } from "./graph.js";
import { Empty, Problem, Status } from "./parts.js";
import { to } from "./route.js";

function useAnswer(path, seconds) {
  const [answer, setAnswer] = useState(null);
  const [error, setError] = useState(null);
  const ask = () => get(path).then((it) => (setAnswer(it), setError(null)), setError);
  useEffect(() => {
    ask();
    const timer = setInterval(() => !document.hidden && !isPaused.value && ask(), seconds * 1000);
    return () => clearInterval(timer);
  }, [path]);
  return { answer, error, ask };
}

const quoted = (text) => (/[\s"]/.test(text) ? `"${text.replace(/["\\]/g, "\\$&")}"` : text);

export function Workflows() {
  const { answer, error } = useAnswer("workflows", 5);
  useEffect(() => void (document.title = "Workflows · treadle"), []);
  return html`<main class="page-plain"><h1>Workflows</h1><${Problem} error=${error} />
    ${answer && !answer.workflows.length && html`<${Empty}>There are no workflows yet.</${Empty}>`}
    ${answer && answer.workflows.length > 0 && html`<p class="note">Counts and times are of the newest ${plural(answer.seen, "run")}.</p>`}
    ${answer?.workflows.map((it) => html`<${Workflow} key=${it.name} of=${it} />`)}
  </main>`;
}

function Workflow({ of }) {
  const nodes = of.graph && nodesOf(of.graph);
  const counts = Object.entries(of.counts).filter(([, n]) => n > 0);
  return html`<section class="card">
    <header><h2>${visible(of.name)}</h2>
      <span class="counts">${counts.map(
        ([status, n]) => html`<a key=${status} href=${to("runs", [], { q: `workflow:${quoted(of.name)} status:${status}` })}><${Status} of=${status} quiet /> ${count(n)} ${status}</a>`,
      )}${!counts.length && html`<span class="faint">no runs</span>`}</span></header>
    <dl class="facts">
      <div><dt>Half take up to</dt><dd>${of.p50 === null ? "–" : lasts(of.p50)}</dd></div>
      <div><dt>99 of 100 up to</dt><dd>${of.p99 === null ? "–" : lasts(of.p99)}</dd></div>
      <div><dt>Failed</dt><dd>${of.failed_share === null ? "–" : `${(of.failed_share * 100).toFixed(of.failed_share > 0 && of.failed_share < 0.1 ? 1 : 0)} %`}</dd></div>
    </dl>
    ${nodes
      ? html`<div class="graph-box"><${Graph} names=${nodes.names} titles=${nodes.titles} arrows=${nodes.arrows} notes=${nodes.notes} label=${`graph of workflow ${of.name}`} /></div>`
      : html`<p class="note">Its code is not in this process, so that its graph is not known here. The page of a run shows what that did.</p>`}
  </section>`;
}

export function Processes() {
  const { answer, error } = useAnswer("processes", 3);
  useEffect(() => void (document.title = "Processes · treadle"), []);
  return html`<main class="page-plain"><h1>Processes</h1><${Problem} error=${error} />
    ${answer && !answer.processes.length && html`<${Empty}>No process executes a run.</${Empty}>`}
    ${answer?.processes.length > 0 &&
    html`<div class="table-box" tabindex="0" role="region" aria-label="table"><table class="plain wide"><thead><tr><th>Process</th><th>Runs</th><th>Running</th><th>Workflows</th><th>Last commit</th><th>Oldest commit</th><th>Highest epoch</th><th>Processes lost</th></tr></thead>
      <tbody>${answer.processes.map(
        (it) => html`<tr key=${it.owner ?? ""}>
          <th scope="row">${it.owner === null ? html`<span class="s-stranded">no process yet</span>` : html`<code title=${it.owner}>${short(it.owner)}</code>`}</th>
          <td>${count(it.runs)}</td><td>${count(it.running)}</td><td>${visible(it.workflows.join(", "))}</td>
          <td><time title=${moment(it.updated)}>${ago(it.updated, now())}</time></td><td><time title=${moment(it.oldest)}>${ago(it.oldest, now())}</time></td>
          <td>${count(it.epoch)}</td><td>${count(it.recoveries)}</td></tr>`,
      )}</tbody></table></div>
      <p class="note">These are the processes of the newest ${plural(answer.seen, "run")} that ${answer.seen === 1 ? "is" : "are"} not over. A run that no process has taken goes on as soon as one with its workflow has room.</p>`}
  </main>`;
}

export function Waiting() {
  const { answer, error, ask } = useAnswer("waiting", 3);
  useEffect(() => void (document.title = "Waiting · treadle"), []);
  const asks = (run, event) =>
    open({ title: "Send an event", body: html`<${SendForm} run=${run} event=${event.class} form=${event.form} after=${ask} />` });
  return html`<main class="page-plain"><h1>Waiting</h1><${Problem} error=${error} />
    ${answer && !answer.waiting.length && html`<${Empty}>No run waits for an event.</${Empty}>`}
    ${answer?.waiting.length > 0 &&
    html`<div class="table-box" tabindex="0" role="region" aria-label="table"><table class="plain wide"><thead><tr><th>Run</th><th>Workflow</th><th>Step</th><th>Event</th><th>Until</th><th>Since</th><th><span class="unseen">Answer</span></th></tr></thead>
      <tbody>${answer.waiting.flatMap(({ run, events }) =>
        events.map(
          (event, i) => html`<tr key=${`${run.id}${i}`}>
            <th scope="row"><a href=${to("run", [run.id])}>${run.key === null ? html`<code>${short(run.id)}</code>` : visible(run.key)}</a></th>
            <td>${visible(run.workflow)}</td><td>${visible(event.step || "?")}</td><td title=${event.class}>${visible(className(event.class))}</td>
            <td>${event.due ? html`<time title=${moment(event.due)}>${ago(event.due, now())}</time>` : html`<span class="faint">no limit</span>`}</td>
            <td><time title=${moment(run.updated)}>${ago(run.updated, now())}</time></td>
            <td>${may("send") && event.form && html`<button type="button" onClick=${() => asks(run, event)}>Answer</button>`}</td></tr>`,
        ),
      )}</tbody></table></div>
      ${answer.next && html`<p class="note">These are the newest; more runs wait.</p>`}
      ${may("send") && answer.waiting.some(({ events }) => events.some((it) => !it.form)) && html`<p class="note">An event of a class that is not in this process is sent from one that has it, as with python -m treadle send.</p>`}`}
  </main>`;
}
