//! Guest programs without a compiler: a list of operations becomes machine code that means the same in
//! 32-bit and in 64-bit mode (addresses below 4 GiB).

/// Where the code is loaded.
const BASE: u64 = 0x10_0000;
const COM1: u16 = 0x3f8;

/// One operation.
#[derive(Clone, Copy, Debug)]
pub enum Op<'o> {
    /// Prints text on COM1.
    Say(&'o str),
    /// Prints a 32-bit word in memory as eight hex digits, lowest byte first.
    SayWord(u32),
    /// The same of the word that ebx points at.
    SayWordAtRbx,
    /// Prints the byte that a port gives as two hex digits.
    SayPort(u16),
    /// Writes a byte to a port.
    Port8(u16, u8),
    /// Writes a 32-bit word to memory.
    Write32(u32, u32),
    /// Waits until a 16-bit word in memory has this value.
    Await16(u32, u16),
    /// An undefined instruction.
    Undefined,
    /// Runs in place for ever.
    Spin,
}

pub struct Payload(Vec<u8>);

impl Payload {
    pub fn new(ops: &[Op<'_>]) -> Self {
        let mut code = Self(Vec::new());
        for op in ops {
            code.add(*op);
        }
        code.add(Op::Spin);
        code
    }

    fn add(&mut self, op: Op<'_>) {
        match op {
            Op::Say(text) => text.bytes().for_each(|byte| self.add(Op::Port8(COM1, byte))),
            Op::SayWord(address) => {
                self.load_address(address);
                self.0.extend([0x8b, 0x18]); // mov ebx, [rax]
                self.say_ebx(4);
            }
            Op::SayWordAtRbx => {
                self.0.extend([0x8b, 0x1b]); // mov ebx, [rbx]
                self.say_ebx(4);
            }
            Op::SayPort(port) => {
                self.load_port(port);
                self.0.extend([0xec, 0x89, 0xc3]); // in al, dx; mov ebx, eax
                self.say_ebx(1);
            }
            Op::Port8(port, value) => {
                self.load_port(port);
                self.0.extend([0xb0, value, 0xee]); // mov al, value; out dx, al
            }
            Op::Write32(address, value) => {
                self.load_address(address);
                self.0.extend([0xc7, 0x00]); // mov dword [rax], value
                self.0.extend(value.to_le_bytes());
            }
            Op::Await16(address, value) => {
                self.load_address(address);
                self.0.extend([0x66, 0x81, 0x38]); // cmp word [rax], value
                self.0.extend(value.to_le_bytes());
                self.0.extend([0x75, 0xf9]); // jne back to the comparison
            }
            Op::Undefined => self.0.extend([0x0f, 0x0b]),
            Op::Spin => self.0.extend([0xeb, 0xfe]),
        }
    }

    fn load_address(&mut self, address: u32) {
        self.0.push(0xb8); // mov eax, address
        self.0.extend(address.to_le_bytes());
    }

    fn load_port(&mut self, port: u16) {
        self.0.extend([0x66, 0xba]); // mov dx, port
        self.0.extend(port.to_le_bytes());
    }

    /// Prints the lowest bytes of ebx in hex, two digits each.
    fn say_ebx(&mut self, bytes: usize) {
        self.load_port(COM1);
        for _ in 0..bytes {
            self.0.extend([0x88, 0xd8, 0xc0, 0xe8, 0x04]); // mov al, bl; shr al, 4
            self.say_digit();
            self.0.extend([0x88, 0xd8, 0x24, 0x0f]); // mov al, bl; and al, 15
            self.say_digit();
            self.0.extend([0xc1, 0xeb, 0x08]); // shr ebx, 8
        }
    }

    /// Prints al, 0 to 15, as a hex digit.
    fn say_digit(&mut self) {
        self.0.extend([0x3c, 0x0a]); // cmp al, 10
        self.0.extend([0x72, 0x02]); // jb over the next
        self.0.extend([0x04, 0x27]); // add al, 'a' - '0' - 10
        self.0.extend([0x04, 0x30, 0xee]); // add al, '0'; out dx, al
    }

    /// An ELF that is entered in 64-bit mode.
    pub fn elf(&self) -> Vec<u8> {
        self.image(None)
    }

    /// An ELF with a PVH note, entered in 32-bit mode.
    pub fn pvh_elf(&self) -> Vec<u8> {
        // Name "Xen", type 18, a 32-bit entry point.
        let mut note = Vec::new();
        for word in [4, 4, 18] {
            note.extend(u32::to_le_bytes(word));
        }
        note.extend(b"Xen\0");
        note.extend(u32::try_from(BASE).unwrap().to_le_bytes());
        self.image(Some(note))
    }

    fn image(&self, note: Option<Vec<u8>>) -> Vec<u8> {
        const FILE_HEADER: u64 = 64;
        const PROGRAM_HEADER: u64 = 56;
        let segments = 1 + u64::from(note.is_some());
        let at = FILE_HEADER + segments * PROGRAM_HEADER;
        let length = |bytes: &[u8]| u64::try_from(bytes.len()).unwrap();
        let code = length(&self.0);
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x02\0\x3e\0\x01\0\0\0".to_vec();
        for field in [BASE, FILE_HEADER, 0] {
            file.extend(field.to_le_bytes());
        }
        file.extend([0, 0, 0, 0, 64, 0, 56, 0, u8::try_from(segments).unwrap(), 0, 0, 0, 0, 0, 0, 0]);
        file.extend([1, 0, 0, 0, 7, 0, 0, 0]);
        for field in [at, BASE, BASE, code, code, 0x1000] {
            file.extend(field.to_le_bytes());
        }
        if let Some(note) = &note {
            file.extend([4, 0, 0, 0, 4, 0, 0, 0]);
            for field in [at + code, 0, 0, length(note), length(note), 4] {
                file.extend(field.to_le_bytes());
            }
        }
        file.extend(&self.0);
        file.extend(note.unwrap_or_default());
        file
    }
}
