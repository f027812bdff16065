// Keeps a page current: waits until something has changed here, then puts the new <main> in place of the old one.
// What somebody is writing is never replaced: they are told that there is news.
const writing = () => [...document.querySelectorAll("main textarea, main input[type=text]")]
  .some((field) => field.value !== field.defaultValue || field === document.activeElement);

async function renew() {
  const answer = await fetch(location.href);
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  const [now, next] = [document.querySelector("main"), page.querySelector("main")];
  document.body.dataset.seq = page.body.dataset.seq;
  if (now.innerHTML === next.innerHTML || now.dataset.stale) return;
  if (writing()) {
    now.dataset.stale = "1";
    const note = document.createElement("p");
    note.className = "news";
    note.setAttribute("role", "status");
    note.append("Something new happened here. ");
    const link = document.createElement("a");
    link.href = location.href;
    link.append("Show it");
    note.append(link, " (what you have written is lost then)");
    now.prepend(note);
  } else now.replaceWith(next);
}

async function follow() {
  for (;;) {
    try {
      const answer = await fetch(`/_standin/wait?after=${document.body.dataset.seq}&timeout=25`);
      if ((await answer.json()).seq > Number(document.body.dataset.seq)) await renew();
    } catch { /* it was stopped, or the page is being left */ }
    await new Promise((done) => setTimeout(done, 300));
  }
}
follow();
