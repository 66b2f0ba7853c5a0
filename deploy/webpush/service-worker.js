// Clarion's service worker: shows what a push brings, opens its address on a click.
// Serve it from your site's root and register it; see docs/webpush.md. In its URL it may be told
//   resync   where to POST {old, subscription} when the browser replaces a subscription by itself
//   key      your public key, for browsers that do not say which one the old subscription had
"use strict";

const told = new URL(self.location.href).searchParams;

self.addEventListener("push", (event) => {
  event.waitUntil(show(event.data));
});

async function show(data) {
  const message = read(data);
  // Something must be shown for every push: browsers take the permission away from those who show nothing.
  const title = message.title || message.body || self.registration.scope;
  await self.registration.showNotification(title, {
    body: message.title ? message.body : undefined,
    icon: message.icon,
    image: message.image,
    badge: message.badge,
    tag: message.tag, // the same tag again replaces what is shown: a repeat is seen once
    silent: message.silent,
    requireInteraction: message.requireInteraction,
    actions: (message.actions || []).map(({ action, title }) => ({ action, title })),
    data: { url: message.url, actions: message.actions || [], data: message.data || {} },
  });
  if (message.appBadge !== undefined && "setAppBadge" in navigator) {
    await navigator.setAppBadge(message.appBadge);
  }
}

function read(data) {
  if (!data) return {};
  try {
    const value = data.json();
    return value !== null && typeof value === "object" ? value : { body: String(value) };
  } catch {
    return { body: data.text() };
  }
}

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const { url, actions } = event.notification.data || {};
  const action = (actions || []).find((one) => one.action === event.action);
  if (event.action === "close") return;
  event.waitUntil(open((action && action.url) || url));
});

async function open(url) {
  if (!url) return;
  const target = new URL(url, self.registration.scope).href;
  const windows = await clients.matchAll({ type: "window", includeUncontrolled: true });
  const there = windows.find((window) => window.url === target);
  await (there ? there.focus() : clients.openWindow(target));
}

self.addEventListener("pushsubscriptionchange", (event) => {
  event.waitUntil(replaced(event.oldSubscription, event.newSubscription));
});

async function replaced(old, fresh) {
  const options = old ? old.options : { userVisibleOnly: true, applicationServerKey: told.get("key") };
  if (!fresh && !options.applicationServerKey) return; // the page will notice when it is opened
  const subscription = fresh || (await self.registration.pushManager.subscribe(options));
  const news = { old: old ? old.endpoint : null, subscription: subscription.toJSON() };
  if (told.has("resync")) {
    await fetch(told.get("resync"), {
      method: "POST",
      headers: { "content-type": "application/json" },
      credentials: "include",
      body: JSON.stringify(news),
    });
  }
  for (const page of await clients.matchAll({ includeUncontrolled: true })) {
    page.postMessage({ type: "clarion-resubscribed", ...news });
  }
}
