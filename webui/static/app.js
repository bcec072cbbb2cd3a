// What pages do by themselves. All but passkeys works without.

const post = async (path, body) => {
	const resp = await fetch(path, { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
	const answer = await resp.json().catch(() => ({ error: `the box answered ${resp.status}` }));
	if (!resp.ok) throw new Error(answer.error);
	return answer;
};

// ceremony runs one of the browser's dialogues, and shows what goes wrong beside the button.
const ceremony = (button, run) => async (event) => {
	event.preventDefault();
	const out = button.closest("section").querySelector("[data-passkey-error]");
	out.hidden = true;
	button.disabled = true;
	try {
		location.assign((await run()).to);
	} catch (err) {
		out.textContent = err.name === "NotAllowedError" ? "The passkey was not used: the browser was not allowed to, or it took too long."
			: err.name === "SecurityError" ? "The browser does not use passkeys here: it has to trust the box’s certificate first."
			: err.name === "InvalidStateError" ? "This device has a passkey for the box already."
			: err.message;
		out.hidden = false;
		button.disabled = false;
	}
};

if (window.PublicKeyCredential?.parseCreationOptionsFromJSON) {
	const login = document.querySelector("[data-passkey-login]");
	if (login) {
		login.hidden = false;
		login.addEventListener("click", ceremony(login, async () => {
			const { publicKey } = await post("/login/passkey/begin", {});
			const key = await navigator.credentials.get({ publicKey: PublicKeyCredential.parseRequestOptionsFromJSON(publicKey) });
			return post("/login/passkey", { next: login.dataset.next, answer: key.toJSON() });
		}));
	}
	const add = document.querySelector("[data-passkey-add]");
	if (add) {
		add.hidden = false;
		add.addEventListener("submit", ceremony(add.querySelector("button"), async () => {
			const { publicKey } = await post("/account/passkeys/begin", {});
			const key = await navigator.credentials.create({ publicKey: PublicKeyCredential.parseCreationOptionsFromJSON(publicKey) });
			return post("/account/passkeys", { label: add.elements.label.value, answer: key.toJSON() });
		}));
	}
}

// On a narrow screen the navigation is a strip that scrolls.
document.querySelector("nav [aria-current]")?.scrollIntoView({ inline: "center", block: "nearest" });

// Countdowns run from how long there was when the page was written, so that the clock of
// the browser's machine does not matter. One region that is read out says 60, 30 and 10.
const began = performance.now();
const clocks = [...document.querySelectorAll("[data-deadline]")];
if (clocks.length > 0) {
	const said = document.createElement("p");
	said.className = "off";
	said.setAttribute("aria-live", "polite");
	document.body.append(said);
	const tick = () => {
		const left = Math.max(0, Number(clocks[0].dataset.deadline) - Math.floor((performance.now() - began) / 1000));
		for (const c of clocks) c.textContent = `${Math.floor(left / 60)}:${String(left % 60).padStart(2, "0")}`;
		if (left === 60 || left === 30 || left === 10) said.textContent = `The change is undone in ${left} seconds.`;
		if (left > 0) setTimeout(tick, 1000);
		else if (document.querySelector("[data-pending]")) setTimeout(() => location.reload(), 2000);
	};
	tick();
}

// The editor shows the line that was asked for.
const editor = document.querySelector("textarea[data-line]");
if (editor) {
	const lines = editor.value.split("\n"), n = Math.min(Number(editor.dataset.line), lines.length) - 1;
	const from = lines.slice(0, n).join("\n").length + (n > 0 ? 1 : 0);
	editor.setSelectionRange(from, from + lines[n].length);
	editor.scrollTop = Math.max(0, n - 8) * (editor.scrollHeight / lines.length);
}

// Pages that are old after some seconds are asked for again, once the box answers.
const later = (path, seconds) => setTimeout(async () => {
	const there = await fetch("/api/v1/health", { cache: "no-store" }).then((r) => r.ok, () => false);
	if (there) location.assign(path);
	else later(path, seconds);
}, seconds * 1000);
const reload = document.body.dataset.reload;
if (Number(reload) > 0) later(document.body.dataset.again, reload);
const back = document.querySelector("[data-back]");
if (back) later(back.dataset.back, 10);

// Live flows: rows come as they are recorded. Nothing is read out, there are too many.
const live = document.querySelector("[data-live]");
if (live) {
	const pause = live.querySelector("[data-live-pause]");
	const rows = live.querySelector("tbody");
	let source, skipped = 0;
	const say = (text) => { live.querySelector("[data-live-state]").textContent = text + (skipped ? ` ${skipped} skipped: more came than could be shown.` : ""); };
	const begin = () => {
		source = new EventSource(live.dataset.live);
		source.onopen = () => say("Live.");
		source.onerror = () => say(source.readyState === EventSource.CLOSED ? "It has stopped: load the page again." : "Connecting again.");
		source.addEventListener("skipped", (event) => { skipped += Number(event.data); say("Live."); });
		source.onmessage = (event) => {
			const row = document.createElement("template");
			row.innerHTML = event.data; // the box has written it
			rows.prepend(row.content);
			while (rows.rows.length > 200) rows.deleteRow(-1);
		};
	};
	pause.hidden = false;
	pause.addEventListener("click", () => {
		const going = source.readyState !== EventSource.CLOSED;
		if (going) source.close();
		else begin();
		pause.textContent = going ? "Go on" : "Pause";
		if (going) say("Paused: what comes meanwhile is in the list of the latest.");
	});
	begin();
}
