"use strict";
// Links inside the page: what they lead to is unfolded and takes the keyboard; Escape leads back.
let before = null;  // where somebody was before a card

function reveal() {
  let target = null;
  try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch { return; }
  if (!target) return;
  for (let at = target.parentElement; at; at = at.parentElement) {
    if (at.tagName === "DETAILS") at.open = true;
  }
  target.scrollIntoView();
  if (target.classList.contains("card")) target.focus({ preventScroll: true });
}

function showCard(network, from) {
  if (network === null) return;
  before = from;
  const hash = `#card-${network}`;
  if (location.hash === hash) reveal();
  else location.hash = hash;
}

addEventListener("hashchange", reveal);
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[href^='#']");
  if (!link) return;
  if (link.hash.startsWith("#card-") && !link.closest(".card")) before = link;
  if (link.hash === location.hash) reveal();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || !document.activeElement.closest(".card")) return;
  const back = before?.isConnected ? before : document.getElementById("front") ?? document.getElementById("main");
  back.scrollIntoView({ block: back === before ? "center" : "start" });
  if (!back.matches("a, button")) back.setAttribute("tabindex", "-1");
  back.focus({ preventScroll: true });
});
if (location.hash) reveal();

// The list of sections marks the one that is read.
const entries = new Map(Array.from(document.querySelectorAll(".contents a"), (link) => [link.hash.slice(1), link]));
const passing = new IntersectionObserver((seen) => {
  for (const { isIntersecting, target } of seen) {
    const link = entries.get(target.id);
    if (isIntersecting) link.setAttribute("aria-current", "true");
    else link.removeAttribute("aria-current");
  }
}, { rootMargin: "-20% 0px -75% 0px" });
for (const section of document.querySelectorAll(".sections > section")) passing.observe(section);
