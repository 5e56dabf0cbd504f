//! One recipient, two nodes, and everything that may happen: the actions, and what each of them does.

use super::connection::{Connection, Nudge, Phase};
use super::database::{Database, Hint, Message, Node, Page, Seq, Set, chat_of};
use super::defect::Defect;

/// The size of a world, and its mistake if it has one.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) defect: Option<Defect>,
    pub(crate) messages: u8,
    /// The number of sends, first sends and repetitions together.
    pub(crate) sends: u8,
    /// The number of times that the client connects, and that a node crashes.
    pub(crate) connects: u8,
    pub(crate) crashes: u8,
    /// Connections at the same time.
    pub(crate) sockets: usize,
    /// All connections are of one named device; else of none.
    pub(crate) has_device: bool,
    /// The client may refuse a message for good, and an operator put it back.
    pub(crate) requeues: u8,
    pub(crate) page_rows: usize,
    pub(crate) window: usize,
    /// The chats that are streams of feeds, a bit each.
    pub(crate) feeds: u8,
}

/// Acks that wait for the next transaction of a node's lane. They outlive their connection, not their node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub(crate) struct Lane {
    pub(crate) acks: Set,
    device_acked: Seq,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct State {
    pub(crate) database: Database,
    pub(crate) sockets: Vec<Option<Connection>>,
    pub(crate) lanes: [Lane; 2],
    /// The messages that the client has processed, in the order in which they first came.
    pub(crate) seen: Vec<Message>,
    /// Messages of which an ack has arrived at some node.
    pub(crate) acked: Set,
    /// The numbers of connections that were registered: what displacement hints tell of.
    pub(crate) announced: Set,
    /// The newest connection of the device had to yield to an older one.
    pub(crate) newest_yielded: bool,
    pub(crate) sends_left: u8,
    pub(crate) connects_left: u8,
    pub(crate) crashes_left: u8,
    pub(crate) requeues_left: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    /// A lane of a node begins `restante_accept` with this message: the first time, or since no answer came.
    Send(Message, Node),
    /// The next statement of that transaction; the last is its commit.
    Write(usize),
    /// The next statement of `restante_advance_settled`.
    AdvanceSettled,
    /// The client connects to a node: `restante_open`.
    Open(Node),
    /// The hub learns of the connection.
    Register(usize),
    /// The next statement of the take that comes before the page.
    Take(usize),
    /// A node was told that a stream has moved. It takes what is new for its connections, and offers it to them instead of a wake.
    TakeTogether(Node, usize),
    /// The page statement runs: one snapshot.
    ReadPage(usize),
    /// The defect's second statement.
    ReadLastSeq(usize),
    /// Its answer reaches the session.
    PageArrives(usize),
    /// A hint of this row arrives with the envelope (an offer), at any time, any number of times.
    Offer(usize, Seq),
    /// The same without it; of an event of a feed there is no other.
    Wake(usize, Hint),
    /// The client takes the next envelope, and acks it.
    Receive(usize),
    /// The client takes the next envelope, and refuses it for good.
    Reject(usize),
    /// An ack arrives. The client acks in the order in which it has processed.
    AckArrives(usize, Message),
    /// A lane commits what acks it has.
    CommitAcks(Node),
    /// The operator puts a failed row back.
    Requeue,
    /// A displacement hint arrives: the device has a connection of this number.
    Displace(usize, u8),
    /// The socket breaks.
    Break(usize),
    /// `kill -9`.
    Crash(Node),
    /// The slow look. Not a step of the model, which must do without: only of its way to rest.
    Look(usize),
}

const NODES: [Node; 2] = [0, 1];

impl World {
    /// The state in which nothing has happened.
    pub(crate) fn initial(&self) -> State {
        State {
            database: Database::new(self.feeds),
            sockets: vec![None; self.sockets],
            lanes: [Lane::default(); 2],
            seen: Vec::new(),
            acked: Set::default(),
            announced: Set::default(),
            newest_yielded: false,
            sends_left: self.sends,
            connects_left: self.connects,
            crashes_left: self.crashes,
            requeues_left: self.requeues,
        }
    }

    /// Actions that may be possible next. [`World::act`] refuses those that are not.
    pub(crate) fn possible(&self, state: &State, actions: &mut Vec<Action>) {
        // Nodes are alike, and so are two messages of two chats: the first to do anything are node 0 and message 0.
        let nothing_sent = state.sends_left == self.sends;
        let nodes = if nothing_sent && state.connects_left == self.connects { &NODES[..1] } else { &NODES };
        let messages = if nothing_sent && self.messages == 2 { 1 } else { self.messages };
        for node in nodes {
            if state.sends_left > 0 {
                actions.extend((0..messages).map(|message| Action::Send(message, *node)));
            }
            actions.extend([Action::Open(*node), Action::Crash(*node)]);
        }
        self.helpful(state, actions);
        actions.push(Action::Requeue);
        let streams = (0..2).filter(|stream| self.feeds & (1 << stream) != 0);
        actions.extend(streams.flat_map(|stream| NODES.map(|node| Action::TakeTogether(node, stream))));
        for (socket, connection) in state.sockets.iter().enumerate() {
            let Some(connection) = connection else { continue };
            actions.extend([Action::Break(socket), Action::Reject(socket)]);
            if connection.is_registered() {
                let rows = state.database.rows.iter();
                actions.extend(rows.flat_map(|row| [Action::Offer(socket, row.seq), Action::Wake(socket, Hint::Row(row.seq))]));
                actions.extend(state.database.events.iter().map(|event| Action::Wake(socket, Hint::Event(event.message))));
                actions.extend(state.announced.iter().map(|number| Action::Displace(socket, number)));
            }
        }
    }

    /// Actions that happen by themselves sooner or later, without luck and without a fault.
    pub(crate) fn helpful(&self, state: &State, actions: &mut Vec<Action>) {
        actions.extend([Action::Write(0), Action::Write(1), Action::AdvanceSettled]);
        actions.extend(NODES.map(Action::CommitAcks));
        for (socket, connection) in state.sockets.iter().enumerate() {
            let Some(connection) = connection else { continue };
            actions.extend(connection.up.iter().map(|message| Action::AckArrives(socket, message)));
            actions.extend([
                Action::Register(socket),
                Action::Take(socket),
                Action::ReadPage(socket),
                Action::ReadLastSeq(socket),
                Action::PageArrives(socket),
                Action::Receive(socket),
            ]);
        }
    }

    /// Performs the action. False: it is not possible now, and nothing has changed.
    pub(crate) fn act(&self, state: &mut State, action: Action) -> bool {
        match action {
            Action::Send(message, node) => {
                state.sends_left -= 1;
                state.database.begin(message, node, self.defect)
            }
            Action::Write(slot) => self.write(state, slot),
            Action::AdvanceSettled => state.database.advance(self.defect),
            Action::Open(node) => self.open(state, node),
            Action::CommitAcks(node) => self.commit_acks(state, node),
            Action::Requeue => self.requeue(state),
            Action::Crash(node) => crash(state, node),
            Action::Register(socket) => self.register(state, socket),
            Action::Break(socket) => lose(state, socket).is_some(),
            Action::Displace(socket, number) => self.displace(state, socket, number),
            Action::Reject(socket) => self.reject(state, socket),
            Action::AckArrives(socket, message) => self.ack_arrives(state, socket, message),
            Action::Take(socket) => self.take(state, socket),
            Action::TakeTogether(node, stream) => self.take_together(state, node, stream),
            Action::ReadPage(_)
            | Action::ReadLastSeq(_)
            | Action::PageArrives(_)
            | Action::Offer(..)
            | Action::Wake(..)
            | Action::Receive(_)
            | Action::Look(_) => self.happens_to(state, action),
        }
    }

    fn write(&self, state: &mut State, slot: usize) -> bool {
        let mut accepted = None;
        let went_on = state.database.write(slot, &mut accepted);
        tell(state, accepted);
        went_on
    }

    /// Where nothing is followed a page is read without a take.
    fn take(&self, state: &mut State, socket: usize) -> bool {
        let is_reading = state.sockets[socket].as_ref().is_some_and(Connection::is_reading);
        self.feeds != 0 && is_reading && state.database.take(socket, self.page_rows, self.defect)
    }

    /// A node that takes nothing wakes its connections, which is an action of its own.
    fn take_together(&self, state: &mut State, node: Node, stream: usize) -> bool {
        let State { database, sockets, .. } = state;
        let events: Vec<u8> = database
            .events
            .iter()
            .filter(|event| chat_of(event.message) == stream)
            .map(|event| Hint::Event(event.message).place())
            .collect();
        let is_told = |it: &Connection| it.node == node && it.is_registered() && events.iter().any(|event| it.owed.contains(*event));
        if !sockets.iter().flatten().any(is_told) {
            return false;
        }
        let made = database.take_together(stream);
        if made.is_empty() && self.defect != Some(Defect::WakesNobodyWhoseRowsAreMade) {
            return false;
        }
        for connection in sockets.iter_mut().flatten().filter(|it| it.node == node && it.is_registered()) {
            events.iter().for_each(|event| connection.owed.remove(*event));
            made.iter().for_each(|seq| connection.owed.insert(Hint::Row(*seq).place()));
        }
        true
    }

    fn requeue(&self, state: &mut State) -> bool {
        if state.requeues_left == 0 {
            return false;
        }
        state.requeues_left -= 1;
        let requeued = state.database.requeue();
        tell(state, requeued);
        requeued.is_some()
    }

    fn open(&self, state: &mut State, node: Node) -> bool {
        let Some(free) = state.sockets.iter().position(Option::is_none) else { return false };
        if state.connects_left == 0 {
            return false;
        }
        state.connects_left -= 1;
        let start = state.database.open(self.has_device);
        state.sockets[free] = Some(Connection::opened(node, start, self.defect));
        true
    }

    /// `Hub::register`: on one node, the lower number of a device yields, whichever comes first.
    fn register(&self, state: &mut State, socket: usize) -> bool {
        let newcomer = state.sockets[socket].as_ref().filter(|newcomer| newcomer.registers(self.defect));
        let Some((number, node)) = newcomer.map(|newcomer| (newcomer.number, newcomer.node)) else { return false };
        let others = (0..state.sockets.len()).filter(|other| *other != socket);
        let looks = self.defect != Some(Defect::HubLetsADeviceInTwice);
        let same_hub: Vec<usize> =
            others.filter(|other| state.sockets[*other].as_ref().is_some_and(|it| it.is_registered() && it.node == node)).collect();
        if self.has_device {
            state.announced.insert(number);
            for other in same_hub.into_iter().filter(|_| looks) {
                let their_number = state.sockets[other].as_ref().map_or(0, |it| it.number);
                if their_number > number && self.defect != Some(Defect::DisplacedInOrderOfArrival) {
                    return yields(state, socket);
                }
                yields(state, other);
            }
        }
        self.change(state, socket, |it| it.phase = Phase::Registered)
    }

    /// A hint from another node: the lower number yields.
    fn displace(&self, state: &mut State, socket: usize, number: u8) -> bool {
        let Some(own) = state.sockets[socket].as_ref().map(|it| it.number) else { return false };
        let must = match self.defect {
            Some(Defect::DisplacedInOrderOfArrival) => own != number,
            _ => own < number,
        };
        must && yields(state, socket)
    }

    fn ack_arrives(&self, state: &mut State, socket: usize, message: Message) -> bool {
        let Some(connection) = state.sockets[socket].as_mut().filter(|it| it.up.contains(message)) else { return false };
        connection.up.remove(message);
        let covered = connection.ack(message, self.defect);
        let device_acked = if self.has_device { covered } else { 0 };
        let lane = &mut state.lanes[usize::from(connection.node)];
        lane.acks.insert(message);
        lane.device_acked = lane.device_acked.max(device_acked);
        state.acked.insert(message);
        self.change(state, socket, |_| ())
    }

    fn commit_acks(&self, state: &mut State, node: Node) -> bool {
        let Lane { acks, device_acked } = std::mem::take(&mut state.lanes[usize::from(node)]);
        state.database.settle(acks, device_acked, self.defect);
        !acks.is_empty()
    }

    fn reject(&self, state: &mut State, socket: usize) -> bool {
        let Some(connection) = state.sockets[socket].as_mut().filter(|it| !it.down.is_empty()) else { return false };
        let message = connection.down.remove(0);
        if state.requeues_left == 0 || state.seen.contains(&message) || !state.database.fail(message) {
            return false;
        }
        self.change(state, socket, |it| it.flight.retain(|(_, other)| *other != message))
    }

    /// Performs an action of one connection, the database or the client.
    fn happens_to(&self, state: &mut State, action: Action) -> bool {
        let State { database, sockets, seen, .. } = state;
        let (Action::ReadPage(socket)
        | Action::ReadLastSeq(socket)
        | Action::PageArrives(socket)
        | Action::Offer(socket, _)
        | Action::Wake(socket, _)
        | Action::Receive(socket)
        | Action::Look(socket)) = action
        else {
            return false;
        };
        let Some(connection) = sockets[socket].as_mut() else { return false };
        let happened = match action {
            Action::ReadPage(_) => self.read_page(database, connection, socket),
            Action::ReadLastSeq(_) => connection.read_last_seq(database.last_seq),
            Action::PageArrives(_) => connection.page_arrives(),
            Action::Offer(_, seq) => {
                let Some(row) = database.rows.iter().find(|row| row.seq == seq) else { return false };
                connection.owed.remove(seq);
                connection.offer(seq, row.message, self.window, self.defect);
                true
            }
            Action::Wake(_, hint) => {
                connection.owed.remove(hint.place());
                connection.nudge(Nudge::Woken, self.defect);
                true
            }
            Action::Look(_) => connection.look(database.last_seq, database.untaken().next().is_some()),
            Action::Receive(_) => connection.client_receives(|message| {
                if !seen.contains(&message) {
                    seen.push(message);
                }
            }),
            _ => false,
        };
        happened && self.change(state, socket, |_| ())
    }

    /// `Store::page`: what was new is taken, then the page is read.
    fn read_page(&self, database: &mut Database, connection: &mut Connection, socket: usize) -> bool {
        if !connection.is_reading() {
            return false;
        }
        let more = if self.feeds == 0 { Some(false) } else { database.end_take(socket) };
        let Some(more) = more else { return false };
        connection.read(|after| {
            let page = database.page(after, self.page_rows, self.has_device, self.defect);
            Page { is_last: page.is_last && !more, ..page }
        })
    }

    /// Changes a connection, and lets its session do what that makes possible.
    fn change(&self, state: &mut State, socket: usize, change: impl FnOnce(&mut Connection)) -> bool {
        let Some(connection) = state.sockets[socket].as_mut() else { return false };
        change(connection);
        if connection.is_registered() || self.defect == Some(Defect::RegistersAfterReading) {
            connection.carry_on(self.window);
        }
        if self.defect == Some(Defect::DeliveredWhenEmitted) {
            let mut emitted = Set::default();
            connection.down.iter().for_each(|message| emitted.insert(*message));
            state.database.settle(emitted, 0, None);
        }
        true
    }
}

/// Tells a commit to the connections that are registered now. The hint may arrive late, or never.
fn tell(state: &mut State, committed: Option<Hint>) {
    let Some(hint) = committed else { return };
    for connection in state.sockets.iter_mut().flatten().filter(|it| it.is_registered()) {
        connection.owed.insert(hint.place());
    }
}

/// The socket is gone, with the read that it had under way.
fn lose(state: &mut State, socket: usize) -> Option<Connection> {
    state.database.lost_take(socket);
    state.sockets[socket].take()
}

fn yields(state: &mut State, socket: usize) -> bool {
    let yielded = lose(state, socket);
    state.newest_yielded |= yielded.as_ref().is_some_and(|it| it.number == state.database.session_no);
    yielded.is_some()
}

fn crash(state: &mut State, node: Node) -> bool {
    if state.crashes_left == 0 {
        return false;
    }
    state.crashes_left -= 1;
    state.database.lost_node(node);
    state.lanes[usize::from(node)] = Lane::default();
    for socket in 0..state.sockets.len() {
        if state.sockets[socket].as_ref().is_some_and(|connection| connection.node == node) {
            lose(state, socket);
        }
    }
    true
}
